"""A recipe's file as plain data, before anything in it is understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from isogrow.errors import RecipeError
from isogrow.paths import expanded


def loaded(path: str | Path) -> Any:
    """What a YAML file says. Raises `RecipeError` for one that can't be read, or says a key twice."""
    try:
        return yaml.load(expanded(path).read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except OSError as error:
        raise RecipeError(f"{path} can't be read ({error.strerror}): give a recipe's file") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is no UTF-8 (byte {error.start}): save it as UTF-8") from error
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise RecipeError(f"{path} is no YAML ({where}): correct it") from error


class _Loader(yaml.SafeLoader):
    """YAML, but that +4 and +4.0 stay words: YAML 1.1 reads them as 4, and here they mean four more.

    A key that is said twice is refused: YAML forbids it, and its libraries take the last.
    """

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                where = f"line {line}" if lines[key.value] == line else f"lines {lines[key.value]} and {line}"
                raise RecipeError(f"{key.value!r} is said twice, in {where}: say it once")
            lines[key.value] = line
        return node


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regex) for tag, regex in resolvers if first != "+" or tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
