"""On what the two sides compute and how: their devices, their variants, the precision of matrix products."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from parity.errors import ParityError, unknown

VARIANTS = {
    'compiled': "the port after its agent's `compile()`, or a model's module compiled by torch",
    'eager-jax': 'the reference without jit, operation by operation',
}

# So often may one function be compiled in a run: some times for each case.
RECOMPILATIONS = 1000


@dataclass(frozen=True)
class Execution:
    """How a check is executed.

    device:           the torch device of the port.
    reference_device: the jax platform of the reference, 'cpu' or 'cuda'.
    variant:          a name of VARIANTS, or None for the port as written and the reference compiled.
    tf32:             whether float32 products on a GPU may use TF32, which keeps 10 bits of 23.
    Raises ParityError for a device or a variant that torch or this package does not know.
    """

    device: str = 'cpu'
    reference_device: str = 'cpu'
    variant: str | None = None
    tf32: bool = False

    def __post_init__(self) -> None:
        if self.variant is not None and self.variant not in VARIANTS:
            next_step = 'leave it out for neither'
            raise unknown('variant', self.variant, list(VARIANTS), where='--variant', next_step=next_step)
        if self.device != 'cpu':
            _check_torch_device(self.device)

    def lacks(self) -> str:
        """Why this machine cannot do it, in a line; empty if it can."""
        return _lacks_torch(self.device) or _lacks_jax(self.reference_device)

    def command(self, base: str) -> str:
        """A command of the command line with the options that do the same."""
        default = Execution()
        options = {'--device': 'device', '--reference-device': 'reference_device', '--variant': 'variant'}
        words = [base]
        for option, name in options.items():
            if getattr(self, name) != getattr(default, name):
                words += [option, getattr(self, name)]
        return ' '.join(words + ['--tf32'] * self.tf32)

    def described(self) -> dict[str, str]:
        """What a report says of it, by name."""
        where = {'port on': _named(self.device), 'reference on': self.reference_device}
        precision = {'TF32': 'on' if self.tf32 else 'off', 'reduced-precision reductions': 'off'}
        return {
            **(where if self != Execution() else {}),
            **({'variant': self.variant} if self.variant else {}),
            **({'subnormal numbers': 'zero on both sides'} if self._on_cpu else precision),
        }

    @property
    def flushes(self) -> bool:
        """Whether torch can be made to follow XLA in all that is subnormal: eager, and both on the CPU."""
        return self._on_cpu and self.variant != 'compiled'

    @property
    def _on_cpu(self) -> bool:
        return self.device == self.reference_device == 'cpu'

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """With a GPU, torch's precision switches set, whatever they were; on the CPU, subnormal numbers zero.

        What is to be compiled is compiled, or raises. Afterwards all is as it was, except in threads that
        torch starts meanwhile, which keep their way with subnormal numbers.
        """
        compiling = _compiling() if self.variant == 'compiled' else contextlib.nullcontext()
        with compiling, _flushing() if self._on_cpu else self._switched():
            yield

    @contextlib.contextmanager
    def _switched(self) -> Iterator[None]:
        import torch

        products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
        asked = {
            (products, 'allow_tf32'): self.tf32,
            (convolutions, 'allow_tf32'): self.tf32,
            (products, 'allow_fp16_reduced_precision_reduction'): False,
            (products, 'allow_bf16_reduced_precision_reduction'): False,
        }
        before = {(owner, name): getattr(owner, name) for owner, name in asked}
        _set(asked)
        try:
            yield
        finally:
            _set(before)


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Torch compiles a function anew for each port and precision, and more often than eight times.

    By default it then runs the function as written, and a check would not be of what is compiled.
    """
    from torch._dynamo import config

    with config.patch(
        recompile_limit=RECOMPILATIONS,
        accumulated_recompile_limit=RECOMPILATIONS,
        fail_on_recompile_limit_hit=True,
    ):
        yield


@contextlib.contextmanager
def _flushing() -> Iterator[None]:
    """Torch makes subnormal numbers zero in this thread, as XLA does on a CPU whatever the thread's mode is.

    Else what one side rounds to zero is 5e-310 in the other, whose logarithm and its gradient are finite.
    """
    import torch

    before = sys.float_info.min / 2 == 0  # torch has no getter
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _set(switches: Mapping[tuple[object, str], bool]) -> None:
    for (owner, name), value in switches.items():
        setattr(owner, name, value)


def _check_torch_device(device: str) -> None:
    import torch

    try:
        torch.device(device)
    except RuntimeError as cause:
        raise ParityError(
            f'torch knows no device {device!r}',
            values=f"expected 'cpu', 'cuda', 'cuda:1', 'mps' or alike; found {device!r}",
            error='unknown device',
            where='--device',
            next_step=f'python -c "import torch; torch.device(\'{device}\')"',
        ) from cause


def _lacks_torch(device: str) -> str:
    if device == 'cpu':
        return ''
    import torch

    try:
        torch.zeros((), device=device)
    except Exception as cause:  # each backend has its own
        return f'no torch device {device} here: {_first_line(cause)}'
    return ''


def _lacks_jax(platform: str) -> str:
    if platform == 'cpu':
        return ''
    import jax

    try:
        jax.local_devices(backend=platform)
    except RuntimeError as cause:
        return f'no jax device {platform} here: {_first_line(cause)}'
    return ''


def _first_line(cause: Exception) -> str:
    return f'{type(cause).__name__}: {cause}'.splitlines()[0]


def _named(device: str) -> str:
    """The device with the name of the GPU."""
    if not device.startswith('cuda'):
        return device
    import torch

    return f'{device} ({torch.cuda.get_device_name(device)})' if torch.cuda.is_available() else device
