"""Which modality a series is of: by its DICOM Modality, by the general rules, or by import.yaml.

A modality is a name (`modalities.KINDS` says which DICOM Modality the known ones are). Those of one
sequence have general rules, DEFAULTS; a hospital's own take their place. They are a list, the best
first: a series is taken by the first rule that it keeps, and one that keeps none is left. Where
several modalities would take a series, the one with the better rule has it, of equals the one that
is named first: a series is used once. What is never used (choice.py: localisers, maps, another part
of the body) is not used under any rule.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    field_validator,
    model_validator,
)

from securefed import settings_file
from securefed.data.modalities import ALSO, DEFAULT, KINDS, is_name
from securefed.data.series_rule import Described, SeriesRule
from securefed.errors import ConfigurationError

_ANOTHER = "another modality"
_EXAMPLE = "docs/data.md, Rules of your own"
#: The general rules. T1 with and without contrast medium show two things, and each has a name;
#: of the others those without come first.
DEFAULTS: dict[str, list[SeriesRule]] = {
    "t1": [SeriesRule(sequence="T1", contrast=False)],
    "t1c": [SeriesRule(sequence="T1", contrast=True)],
    "t2": [SeriesRule(sequence="T2", contrast=False), SeriesRule(sequence="T2")],
    "flair": [SeriesRule(sequence="FLAIR", contrast=False), SeriesRule(sequence="FLAIR")],
    "pd": [SeriesRule(sequence="PD", contrast=False), SeriesRule(sequence="PD")],
    "dwi": [SeriesRule(sequence="diffusion")],
    "swi": [SeriesRule(sequence="susceptibility")],
}


def _as_words(value: Any) -> Any:
    """YAML makes numbers and truth values of codes and of yes and no."""
    if not isinstance(value, dict):
        return value
    return {str(words): str(label).lower() for words, label in value.items()}


class SeriesRules(BaseModel):
    """What import.yaml says; every key but these is a modality, and its rules.

    Attributes:
        modalities: that are imported, the query first: the others are brought onto it.
        labels: words of headers and reports, and what a label list would have for them.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[str, list[SeriesRule]]

    modalities: list[str] = list(DEFAULT)
    labels: Annotated[dict[str, str], BeforeValidator(_as_words)] = {}

    @field_validator("modalities")
    @classmethod
    def _are_names(cls, values: list[str]) -> list[str]:
        names = [ALSO.get(each, each) for each in values]
        for name in names:
            if not is_name(name):
                raise ValueError(f"{name!r} is no name of a modality: small letters and digits")
        if len(set(names)) < len(names) or not names:
            raise ValueError("must name one modality or more, each once")
        return names

    @model_validator(mode="after")
    def _have_a_use(self) -> "SeriesRules":
        for name, rules in self.own.items():
            if name not in self.modalities:
                raise ValueError(
                    f"{name}: no modality that is imported ({', '.join(self.modalities)})"
                )
            for number, rule in enumerate(rules, 1):
                if rule.modality not in (None, KINDS.get(name, rule.modality)):
                    raise ValueError(f"{name}.{number}.modality: {name} is {KINDS[name]}")
        return self

    @property
    def own(self) -> Mapping[str, list[SeriesRule]]:
        """The rules of import.yaml."""
        return self.__pydantic_extra__ or {}

    @property
    def kinds(self) -> dict[str, frozenset[str]]:
        """Modality -> the DICOM Modality values that its series have.

        Raises:
            ConfigurationError: a name that is not known has no rule that says its Modality, or one
                without rules would take the series of another.
        """
        found: dict[str, frozenset[str]] = {}
        for name in self.modalities:
            said = {rule.modality for rule in self.own.get(name, ())}
            kinds = {KINDS[name]} if name in KINDS else said
            if not kinds or None in kinds:
                raise ConfigurationError(
                    f"{name}: nothing says which series of DICOM it is",
                    hint=f"import.yaml: {name}: [{{modality: MR, description: ...}}]; without "
                    f"rules it is known of {', '.join(KINDS)}",
                )
            found[name] = frozenset(kind for kind in kinds if kind)
        for name, other in itertools.permutations(found, 2):
            if not self.of(name) and found[name] & found[other]:
                raise ConfigurationError(
                    f"{name} is any series of {KINDS[name]}, and {other} is some of them",
                    hint=f"leave {name} out, or give it rules in import.yaml ({_EXAMPLE})",
                )
        return found

    @property
    def all_kinds(self) -> frozenset[str]:
        """Those of every modality."""
        return frozenset().union(*self.kinds.values())

    def kind(self, name: str) -> str:
        """The Modality of a name, where nothing has to say it: what has no unit is read as MR."""
        said = (rule.modality for rule in self.own.get(name, ()) if rule.modality)
        return KINDS.get(name) or next(said, "MR")

    def of(self, name: str) -> list[SeriesRule]:
        """The rules of a modality, of import.yaml or general ones; empty: any of its kind."""
        return self.own.get(name, DEFAULTS.get(name, []))

    def place(self, name: str, series: Described) -> int | None:
        """The number of the rule by which a modality would take a series, from 1; 0 where it has
        none and takes any, None if it does not."""
        rules = self._for(name, series)
        if not rules:
            return 0 if _is_called(name, series) else None
        kept = (n for n, rule in enumerate(rules, 1) if not _broken(name, rule, series))
        return next(kept, None)

    def taker(self, series: Described) -> tuple[str, int] | None:
        """The modality that a series is of, and the number of the rule; None if of none."""
        takers = [
            (place, name)
            for name in self.modalities
            if (place := self.place(name, series)) is not None
        ]
        place, name = min(takers, key=lambda each: each[0], default=(0, ""))
        return (name, place) if name else None

    def why_left(self, series: Described) -> str:
        """Why no rule takes a series."""
        told: list[str] = []
        for name in self.modalities:
            rules = enumerate(self._for(name, series), 1)
            broken = {
                n: why for n, rule in rules if (why := _broken(name, rule, series)) != _ANOTHER
            }
            whole = len(set(broken.values())) == 1
            for number, why in list(broken.items())[: 1 if whole else None]:
                told.append(f"{name}: {why}" if whole else f"{name} {number}: {why}")
        return f"no rule takes it ({', '.join(told)})"

    def why_chosen(self, name: str, place: int, rivals: int) -> str:
        """Why a series is a modality's, of `rivals` that its rules take."""
        what = "the only one" if rivals == 1 else f"the best of {rivals}"
        if not place:
            return what
        by = f"rule {place} of --rules" if name in self.own else self.of(name)[place - 1].words()
        return f"{by}, {what}"

    def idle(self, series: Collection[Described]) -> Iterator[str]:
        """The rules of import.yaml that no series keeps, in words."""
        for name, rules in self.own.items():
            for number, rule in enumerate(rules, 1):
                if all(_broken(name, rule, each) for each in series):
                    yield f"rule {number} of {name}"

    def _for(self, name: str, series: Described) -> list[SeriesRule]:
        """A modality's rules for a series; what a file is called needs no general ones."""
        return self.of(name) if series.named is None else self.own.get(name, [])


def _is_called(name: str, series: Described) -> bool:
    """Whether a series may be of a modality by its Modality, or is by its file's name."""
    if series.named is not None:
        return series.named == name
    return KINDS.get(name, series.kind) == series.kind


def _broken(name: str, rule: SeriesRule, series: Described) -> str | None:
    """Why a rule of a modality does not take a series; None if it does."""
    if not _is_called(name, series) and not (series.named is not None and rule.names_files):
        return _ANOTHER
    return rule.broken_by(series)


def read_rules(path: Path | None, modalities: Iterable[str] | None = None) -> SeriesRules:
    """The rules of import.yaml, or the general ones where there is none.

    Args:
        modalities: in the place of those that the file names; None: the file's, or DEFAULT.

    Raises:
        ConfigurationError: it cannot be read, or says what no rule knows.
    """
    values: dict[str, Any] = {}
    if path is not None:
        hint = "give an existing YAML file"
        values |= settings_file.read(path, "file of rules", _EXAMPLE, hint)
    if modalities is not None:
        values["modalities"] = list(modalities)
    try:
        return SeriesRules.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part + 1 if isinstance(part, int) else part) for part in first["loc"]]
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "no rule knows this key"
        if place:
            message = message[:1].lower() + message[1:]
        where = ["--modalities"] if path is None else [path.name, *filter(None, [".".join(place)])]
        raise ConfigurationError(f"{': '.join(where)}: {message}", hint=f"see {_EXAMPLE}") from None
