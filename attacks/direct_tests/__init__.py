"""Direct tests of the mechanism: is what left the hospitals what the claim says it is?"""

NAME = "direct tests"
