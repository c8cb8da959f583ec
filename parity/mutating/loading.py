"""Modules with another text for a while, from a temporary folder: the working tree is never touched."""

import contextlib
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


@contextlib.contextmanager
def replaced(texts: Mapping[str, str], parent: Path | None = None) -> Iterator[Path]:
    """Within this context the modules of these names have these texts; yields the folder that they lie in.

    parent: where the folder is made, which is not removed where the process is ended in this context.

    Everything in their packages is imported anew, so that what imports a changed module sees it, and again
    what it was afterwards. What was imported before keeps what it had.
    """
    packages = {name.partition('.')[0] for name in texts}
    with tempfile.TemporaryDirectory(prefix='parity_', dir=parent) as folder:
        finder = _Finder({name: _write(Path(folder), name, text) for name, text in texts.items()})
        before = _taken_out(packages)
        sys.meta_path.insert(0, finder)
        importlib.invalidate_caches()
        try:
            yield Path(folder)
        finally:
            sys.meta_path.remove(finder)
            _taken_out(packages)
            sys.modules.update(before)


class _Finder(MetaPathFinder):
    """Finds modules in files that are not where they belong."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.files:
            return None
        original = PathFinder.find_spec(fullname, path, target)
        inside = original.submodule_search_locations if original else None
        return importlib.util.spec_from_file_location(
            fullname, self.files[fullname], submodule_search_locations=inside
        )


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder.joinpath(*name.split('.')).with_suffix('.py')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _taken_out(packages: set[str]) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition('.')[0] in packages]
    return {name: sys.modules.pop(name) for name in names}
