"""Puts beside `finid_client` what it imports of the repository: the public stubs and the pure modules of mesh/.

They stand in a wheel and in a source distribution under their own names. An editable install has none of them: there
the repository itself is on the path.
"""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PUBLIC_STUBS = ("buf/validate", "finid/auth/v1", "finid/esign/v1", "finid/factor/v1", "finid/pki/v1")
# What `mesh.precondition` reaches; tests/client/test_wheel.py holds it against the imports.
PURE_MODULES = (
    "__init__",
    "base64url",
    "errors",
    "facts",
    "floors",
    "names",
    "pins",
    "precondition",
    "receipts",
    "refusal",
    "signed_attributes",
    "strict_json",
    "transaction",
)


class CarriedSources(BuildHookInterface):
    """Adds the files, from the repository or from an unpacked source distribution."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Called by hatchling before a build; `version` is standard or editable."""
        if version == "editable":
            return
        root = Path(self.root)
        repository = root.parent
        in_repository = (repository / "proto").is_dir()
        stubs, modules = (repository / "gen", repository / "mesh") if in_repository else (root, root / "mesh")
        for folder in PUBLIC_STUBS:
            for file in sorted((stubs / folder).glob("*.py*")):
                if file.suffix in {".py", ".pyi"}:
                    build_data["force_include"][str(file)] = f"{folder}/{file.name}"
        for name in PURE_MODULES:
            build_data["force_include"][str(modules / f"{name}.py")] = f"mesh/{name}.py"
        if self.target_name == "sdist":
            return  # it has typed/ as it stands
        for package in ("buf", "finid", "mesh"):
            build_data["force_include"][str(root / "typed" / package / "py.typed")] = f"{package}/py.typed"
