"""What is wrong with an experiment's values, in words: which key, what was given, what is allowed."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import inspect

_SWITCHES = ("on", "off", "yes", "no", "y", "n", "true", "false")  # YAML 1.1's words for them, and strings


def first_problem(tree: Any, kind: inspect.Type, path: str = "") -> str | None:
    """A line on the first value of a tree, as from YAML, that is not of its kind; None if all are.

    Args:
        kind: as `msgspec.inspect.type_info` gives it. Numbers have to be finite as well.
        path: of the tree in the experiment, for the line.
    """
    if isinstance(kind, inspect.Metadata):
        wrong = first_problem(tree, kind.type, path) is not None
        return f"{path}: give {_words(kind)}, not {_shown(tree)}" if wrong else None
    if isinstance(kind, inspect.StructType):
        return _section_problem(tree, kind, path)
    if isinstance(kind, inspect.UnionType):
        return _union_problem(tree, kind, path)
    if isinstance(kind, inspect.VarTupleType | inspect.TupleType):
        return _list_problem(tree, kind, path)
    if isinstance(kind, inspect.DictType):
        if not isinstance(tree, Mapping):
            return f"{path}: give keys with values, such as {{width: 8}}, not {_shown(tree)}"
        return next(filter(None, [_key_problem(tree, path), *_entries(tree, kind.value_type, path)]), None)
    return None if _fits(tree, kind) else f"{path}: give {_words(kind)}, not {_shown(tree)}{_hint(tree, kind)}"


def all_finite(tree: Any) -> bool:
    """Whether all numbers in plain dicts and lists are finite."""
    if isinstance(tree, Mapping):
        return all(map(all_finite, tree.values()))
    if isinstance(tree, list | tuple):
        return all(map(all_finite, tree))
    return not isinstance(tree, float) or math.isfinite(tree)


def _entries(tree: Mapping[Any, Any], kind: inspect.Type, path: str) -> Iterator[str | None]:
    return (first_problem(value, kind, _join(path, str(key))) for key, value in tree.items())


def _section_problem(tree: Any, kind: inspect.StructType, path: str) -> str | None:
    fields = {field.encode_name: field for field in kind.fields}
    keys = sorted([*fields, *([kind.tag_field] if kind.tag_field else [])])
    if not isinstance(tree, Mapping):
        fitting = [name for name, field in fields.items() if tree is not None and _fits(tree, field.type)]
        hint = f"; did you mean {_join(path, fitting[0])}={_bare(tree)}?" if fitting else ""
        return f"{path or 'top level'}: give the keys {', '.join(keys)}, not {_shown(tree)}{hint}"
    problem = _key_problem(tree, path)
    if problem:
        return problem
    for key in tree:
        if key not in keys:
            return _unknown(str(key), keys, path, [name for name in _below(kind, path) if name.endswith(f".{key}")])
    for name, field in fields.items():
        if name in tree:
            problem = first_problem(tree[name], field.type, _join(path, name))
        elif field.required:
            problem = f"the key {_join(path, name)} is missing; give {_words(field.type)}"
        if problem:
            return problem
    return None


def _key_problem(tree: Mapping[Any, Any], path: str) -> str | None:
    """The first key that is not text, or without a value: YAML takes `{width:8}` for one."""
    for key, value in tree.items():
        if not isinstance(key, str):
            return f"{path or 'top level'}: give keys that are text, such as {{width: 8}}, not {_shown(key)}"
        if ":" in key and value is None:
            return f"{path or 'top level'}: {_shown(key)} has no value; put a space after the colon: {_spaced(key)}"
    return None


def _spaced(key: str) -> str:
    name, _, value = key.partition(":")
    return f"{{{name}: {value}}}"


def _unknown(key: str, keys: Sequence[str], path: str, elsewhere: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, keys, n=1)
    if close:
        hint = f"did you mean {close[0]}?"
    else:
        hint = (f"did you mean {elsewhere[0]}? " if len(elsewhere) == 1 else "") + f"the keys are {', '.join(keys)}"
    return f"unknown key {_join(path, key)}; {hint}"


def _below(kind: inspect.Type, path: str) -> Iterator[str]:
    """Every key of a section and of the sections within it."""
    if isinstance(kind, inspect.StructType):
        for field in kind.fields:
            yield _join(path, field.encode_name)
            yield from _below(field.type, _join(path, field.encode_name))


def _union_problem(tree: Any, kind: inspect.UnionType, path: str) -> str | None:
    sections = [each for each in kind.types if isinstance(each, inspect.StructType)]
    if sections and not sections[0].tag_field:  # a section that may be left out
        return None if tree is None else _section_problem(tree, sections[0], path)
    if sections:
        return _tagged_problem(tree, sections, path)
    if any(first_problem(tree, each, path) is None for each in kind.types):
        return None
    for each in kind.types:
        if isinstance(tree, list | tuple) and isinstance(each, inspect.VarTupleType | inspect.TupleType):
            return _list_problem(tree, each, path)
    return f"{path}: give {_words(kind)}, not {_shown(tree)}{_hint(tree, kind)}"


def _tagged_problem(tree: Any, sections: Sequence[inspect.StructType], path: str) -> str | None:
    tag = str(sections[0].tag_field)
    names = [str(section.tag) for section in sections]
    if not isinstance(tree, Mapping):
        hint = f"; did you mean {path}={{{tag}: {tree}}}?" if tree in names else ""
        return f"{path}: give keys, {tag} among them, not {_shown(tree)}{hint}"
    problem = _key_problem(tree, path)
    if problem:
        return problem
    if tag not in tree:
        return f"the key {_join(path, tag)} is missing; give {_either(names)}"
    for section in sections:
        if section.tag == tree[tag]:
            return _section_problem(tree, section, path)
    return f"{_join(path, tag)}: give {_either(names)}, not {_shown(tree[tag])}"


def _list_problem(tree: Any, kind: inspect.VarTupleType | inspect.TupleType, path: str) -> str | None:
    if not isinstance(tree, list | tuple):
        hint = f"; did you mean [{_bare(tree)}]?" if isinstance(kind, inspect.VarTupleType) and tree is not None else ""
        return f"{path}: give {_words(kind)}, not {_shown(tree)}{hint}"
    kinds = [kind.item_type] * len(tree) if isinstance(kind, inspect.VarTupleType) else list(kind.item_types)
    too_few = isinstance(kind, inspect.VarTupleType) and len(tree) < (kind.min_length or 0)
    if len(tree) != len(kinds) or too_few:
        return f"{path}: give {_words(kind)}, not {_shown(tree)}"
    items = enumerate(zip(tree, kinds, strict=True))
    return next(filter(None, (first_problem(item, each, f"{path}[{place}]") for place, (item, each) in items)), None)


def _fits(value: Any, kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.IntType):
        return isinstance(value, int) and not isinstance(value, bool) and _within(value, kind)
    if isinstance(kind, inspect.FloatType):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) < 2**1023 and _within(value, kind)
    if isinstance(kind, inspect.StrType):
        return isinstance(value, str) and (kind.pattern is None or bool(re.search(kind.pattern, value)))
    if isinstance(kind, inspect.BoolType):
        return isinstance(value, bool)
    if isinstance(kind, inspect.NoneType):
        return value is None
    if isinstance(kind, inspect.LiteralType):
        return value in kind.values
    return first_problem(value, kind) is None


def _within(value: float, kind: inspect.IntType | inspect.FloatType) -> bool:
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )


def _words(kind: inspect.Type) -> str:
    """What is allowed."""
    if isinstance(kind, inspect.Metadata):
        described = (kind.extra_json_schema or {}).get("description")
        return str(described) if described else _words(kind.type)
    if isinstance(kind, inspect.IntType):
        return " and ".join(["an integer", *_bounds(kind, int)]).replace("integer and", "integer", 1)
    if isinstance(kind, inspect.FloatType):
        return " and ".join(["a number", *_bounds(kind, float)]).replace("number and", "number", 1)
    if isinstance(kind, inspect.StrType):
        return "text"
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.NoneType):
        return "null"
    if isinstance(kind, inspect.LiteralType):
        return _either([str(value) for value in kind.values])
    if isinstance(kind, inspect.UnionType):
        if all(isinstance(each, inspect.StructType) for each in kind.types):
            return "its keys"
        return _either([_words(each) for each in kind.types])
    if isinstance(kind, inspect.VarTupleType):
        least = f" of at least {kind.min_length}" if kind.min_length else ""
        return f"a list{least} (each item {_words(kind.item_type)})"
    if isinstance(kind, inspect.TupleType):
        return f"a list of {len(kind.item_types)} (each item {_words(kind.item_types[0])})"
    return "its keys"


def _bounds(kind: inspect.IntType | inspect.FloatType, number: type) -> list[str]:
    bounds = ((">", kind.gt), (">=", kind.ge), ("<", kind.lt), ("<=", kind.le))
    return [f"{sign} {number(bound)}" for sign, bound in bounds if bound is not None]


def _hint(value: Any, kind: inspect.Type) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return ": it has to be finite"
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    is_switch = any(isinstance(each, inspect.BoolType) for each in kinds)
    if is_switch and isinstance(value, str) and value.lower() in _SWITCHES:
        return ", which is text in YAML 1.2"
    return ""


def _either(words: Sequence[str]) -> str:
    words = list(dict.fromkeys(words))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bare(value: Any) -> str:
    return value if isinstance(value, str) else _shown(value)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
