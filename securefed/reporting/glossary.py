"""Words that the page explains, and the limits that it states on every run."""

from securefed.reporting.facts import Term

LIMITS = [
    "Epsilon covers training patients of this run only: not held-out patients, who have a figure "
    "of their own or none; not settings chosen after looking at results; not another run on the "
    "same patients, whose epsilon has to be composed with this one.",
    "A pass says that the attacks that were run found little, at the stated confidence. It does "
    "not say that no attack could find more.",
    "Secure aggregation hides single updates, not their sum, and cannot see a poisoned update.",
    "Without differential privacy nothing bounds what the sum and the model tell.",
    "The run directory holds every hospital's folder and the recorded messages. Hand on the page "
    "and the released model, not the directory.",
    "The signature says that nothing changed since the report was made, and by which key. It does "
    "not say that what was recorded is true: whoever runs the program could feed it anything.",
    "The mapping to questions of regulators was written by engineers. It points at figures and "
    "draws no conclusion; that is counsel's and the data protection officer's work.",
    "Nothing here is a medical device or a claim about diagnosis.",
]

_WORDS = {
    "accountant": "The method that adds up privacy loss over all rounds: PRV (tight, numerical) or "
    "RDP (looser, simpler). Both are upper bounds.",
    "adjacency": "Which data sets count as neighbours. Add/remove: they differ by one record that "
    "is there or not.",
    "AUC": "Area under the ROC curve: the share of pairs of one ill and one healthy patient that "
    "the model orders rightly. 0.5 is guessing, 1 is perfect.",
    "canary": "An artificial record put into training by the toss of a coin, to see whether an "
    "attacker can tell heads from tails.",
    "clip norm": "The largest length any one record's gradient may have before noise is added.",
    "coalition": "The server together with some of the hospitals.",
    "confidence interval": "A range that holds the true value in the stated share of repetitions, "
    "mostly 95%.",
    "decision curve": "Net benefit at every threshold that somebody might act from (Vickers and "
    "Elkin 2006), beside treating everybody and treating nobody.",
    "delta": "A small probability with which the bound epsilon may not hold. It must be far below "
    "one over the number of patients.",
    "differential privacy": "Noise in training, so that the result would be almost as likely had "
    "any one patient's data been left out.",
    "egress": "What leaves a hospital.",
    "epsilon": "How far one record can change the chance of any result: by a factor of at most e "
    "to the epsilon. Smaller is better; without unit, adjacency and delta it means nothing.",
    "expected calibration error": "How far predicted probabilities are off on average, over bins "
    "of a reliability diagram. 0 is right.",
    "exposure": "The recorded messages that one observer could read.",
    "gradient inversion": "Attack that searches for a scan that would have given the update seen.",
    "head leakage": "Attack that divides gradients of the first classifier layer to get the "
    "features of a patient.",
    "ledger": "A hospital's own record of all privacy its patients have spent.",
    "masks": "Random numbers that two hospitals agree on; one adds them, the other subtracts, so "
    "that they vanish in the sum only.",
    "membership inference": "Attack that guesses whether a patient was in the training set.",
    "net benefit": "Ill patients found, less false alarms at the odds of the threshold, as a "
    "share of all patients.",
    "noise multiplier": "Standard deviation of the noise over the clip norm.",
    "null control": "The attack run where there is nothing to find. It must fail there.",
    "outsider": "Somebody with the released model and nothing else.",
    "peer": "Another hospital in the federation.",
    "positive control": "The attack run where it must succeed. If it does not, its failure "
    "elsewhere proves nothing.",
    "property inference": "Attack that works out which share of a hospital's patients is ill.",
    "reliability diagram": "Of patients who got about the same probability, which share is ill.",
    "ROC": "Receiver operating characteristic: right alarms against false alarms at every "
    "threshold.",
    "secure aggregation": "A protocol by which the server gets the sum of the updates and none of "
    "them singly.",
    "source inference": "Attack that guesses in which hospital a known participant was a patient.",
    "sensitivity": "Share of ill patients that the model finds.",
    "specificity": "Share of healthy patients that the model leaves alone.",
    "TPR at FPR": "Share of members that an attack finds (true positives) when it may wrongly "
    "accuse the given share of non-members (false positives).",
}
GLOSSARY = [Term(word=word, meaning=meaning) for word, meaning in _WORDS.items()]
