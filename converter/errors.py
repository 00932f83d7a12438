"""Everything that a user of the converter can cause, as named errors.

Messages follow one pattern: `<tensor or layer>: <field> must be <expected>. Received: <field>=<got>. <How to mend it>.`
The command line prints the message alone and exits with 2.
"""


class TFLiteSmartError(ValueError):
    """Base of all errors that bad input can cause."""


class PackedWeightError(TFLiteSmartError):
    """A packed weight breaks a rule of FORMAT.md, 5. The message begins `packed weight: <name of the rule> must be`."""


class UnpackableWeightError(TFLiteSmartError):
    """A weight that can't be packed: not finite, too large, or vanishing. `convert` leaves it alone and says so."""


class ModelFormatError(TFLiteSmartError):
    """A file is not the model it should be: truncated, random bytes, another format."""


class UnsupportedModelError(TFLiteSmartError):
    """A valid model that uses something we can't carry over without loss."""


class InputError(TFLiteSmartError):
    """Data that do not fit the model's inputs."""


class RecipeError(TFLiteSmartError):
    """A recipe has an unknown key, a value out of range, or a pattern that matches nothing."""


class TargetError(TFLiteSmartError):
    """A target, of size, bits or accuracy, that this model can't reach."""


class OutputExistsError(TFLiteSmartError):
    """The output is there already and `overwrite` was not asked for."""


class MissingDependencyError(TFLiteSmartError):
    """An optional package, or the delegate library, is needed and not installed."""


class VerificationError(TFLiteSmartError):
    """What was written does not decode to what was meant to be stored."""


def require(rule: str, condition: bool, received: object, expected: object) -> None:
    """One rule of FORMAT.md, 5. Raises: PackedWeightError: the condition does not hold."""
    if not condition:
        raise PackedWeightError(f"packed weight: {rule} must be {expected}. Received: {rule}={received}. The file is damaged or from another version: convert the model again.")
