"""Which bundle the wheel carries: `models/default`, or the folder that DEESC_BUNDLE names."""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BundleHook(BuildHookInterface):
    """Puts a bundle into the wheel as `deesc_model/default_bundle`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds.

        Raises:
            FileNotFoundError: The folder is no bundle.
        """
        if version == "editable":  # a checkout finds `models/default` itself
            return
        bundle = Path(self.root, os.environ.get("DEESC_BUNDLE", "models/default"))
        if not (bundle / "manifest.json").is_file():
            raise FileNotFoundError(f"no bundle at {bundle}; DEESC_BUNDLE names its folder")
        build_data["force_include"][str(bundle)] = "deesc_model/default_bundle"
