"""What parity raises when it could not check: one error with the five-part message, exit code 2."""


class ParityError(Exception):
    """Nothing, or not everything, could be compared; `parity` exits with 2.

    The message has five lines: the subject; what was expected and what was found; the error against what is
    allowed; where; and what to run or change next.
    """

    def __init__(self, subject: str, *, values: str, error: str, where: str, next_step: str) -> None:
        self.subject = subject
        lines = (subject, f'  {values}', f'  error: {error}', f'  at: {where}', f'  next: {next_step}')
        super().__init__('\n'.join(lines))


class MismatchError(AssertionError):
    """Raised by `Verdict.raise_if_mismatch`: the port does not compute what the reference computes."""


def unknown(kind: str, name: str, known: list[str], *, where: str, next_step: str) -> ParityError:
    """The error for a `name` that is not among the `known` ones."""
    values = f'expected one of {", ".join(known) or "(none)"}; found {name!r}'
    return ParityError(
        f'unknown {kind}: {name}',
        values=values,
        error='1 unknown; allowed: 0',
        where=where,
        next_step=next_step,
    )
