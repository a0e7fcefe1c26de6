#!/usr/bin/env python3
"""Writes the reference of all settings, in Markdown, from the settings' own JSON Schema.

    cardea config schema | scripts/settings-reference.py > docs/settings.md

Names, types, defaults and words all come from the schema, which comes from the code: there is nothing to keep in step.
"""

import json
import sys

HEAD = """\
# Settings

<!-- Generated: `make docs` writes this file from `cardea config schema`. Change the doc comments in src/ instead. -->

One YAML file holds all settings; `cardea serve --config cardea.yaml` and `cardea check --config cardea.yaml` read it.
Every setting may be left out. A name that is not listed here is refused with its line and column, and `cardea check`
prints every mistake at once.

- Lengths of time are text: `250ms`, `15s`, `5m`, `1h 30m`.
- Relative paths are relative to the working folder of the process.
- A secret is never written down: `{file: PATH}` or `{env: NAME}` says where it is.
- Settings are read once, at start. What is reloaded while serving is the bundle (`bundle`), the issuers' keys
  (`identity`) and the listener's certificates (`listen.tls`).

This file is generated from the program's own schema (`cardea config schema`, JSON Schema draft 2020-12), which editors
can use as well: save it beside `cardea.yaml` and begin that file with
`# yaml-language-server: $schema=./cardea.schema.json`.
"""


class Reference:
    """Walks the schema and collects lines of Markdown."""

    def __init__(self, schema):
        self.definitions = schema.get("$defs", {})
        self.lines = HEAD.splitlines()

    def resolve(self, node):
        """The node without references and without `null`: its own words win over those of what it refers to."""
        own = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
        others = [part for part in node.get("anyOf", []) if part.get("type") != "null"]
        if len(others) == 1:
            return {**self.resolve(others[0]), **own}
        if "$ref" in node:
            name = node["$ref"].rsplit("/", 1)[-1]
            return {**self.resolve(self.definitions[name]), **own, "definition": name}
        return node

    def sections(self, schema):
        for name, node in schema["properties"].items():
            self.section(name, self.resolve(node), 2)

    def section(self, path, node, depth):
        """A heading, a table of the settings that hold a value, then a section for each that holds settings."""
        self.lines += ["", f"{'#' * min(depth, 4)} `{path}`", "", text(self.whole(node))]
        inner = []
        rows = []
        for name, member in node["properties"].items():
            member = self.resolve(member)
            own = f"{path}.{name}"
            if "properties" in member:
                inner.append((own, member))
            elif "properties" in self.items(member):
                inner.append((f"{own}[]", {**self.items(member), "description": member["description"]}))
            else:
                rows.append(self.row(own, member, name in node.get("required", [])))
        if rows:
            self.lines += ["", "| setting | type | default | what it says |", "|---|---|---|---|", *rows]
        for own, member in inner:
            self.section(own, member, depth + 1)

    def whole(self, node):
        """What the place says of itself, or what the definition behind it says, whichever says more."""
        general = self.definitions.get(node.get("definition", ""), {}).get("description", "")
        return max(node.get("description", ""), general, key=len)

    def items(self, node):
        items = node.get("items")
        return self.resolve(items) if isinstance(items, dict) else {}

    def row(self, path, node, required):
        words = [text(node.get("description", ""))]
        for choice in node.get("oneOf", []):
            words.append(f"{written(choice)}: {text(choice.get('description', ''))}")
        allowed = self.items(node).get("enum") or node.get("enum")
        if allowed:
            words.append("One of " + ", ".join(f"`{value}`" for value in allowed) + ".")
        cell = "<br>".join(words).replace("\n\n", "<br>").replace("|", "\\|")
        return f"| `{path}` | {self.kind(node)} | {default(node, required)} | {cell} |"

    def kind(self, node):
        if node.get("definition") == "Period":
            return "time"
        if "oneOf" in node or "enum" in node:
            return "choice"
        kinds = node.get("type", "text")
        kind = next((kind for kind in kinds if kind != "null"), "text") if isinstance(kinds, list) else kinds
        if kind == "array":
            return "list of choices" if "enum" in self.items(node) else "list of texts"
        if kind == "object":
            return "map"
        return {"string": "text", "integer": "number", "boolean": "yes or no"}.get(kind, kind)


def written(choice):
    """A choice as it stands in YAML."""
    if "const" in choice:
        return f"`{choice['const']}`"
    return f"`{shape(choice)}`"


def shape(node):
    members = node.get("properties")
    if not members:
        return "NUMBER" if node.get("type") == "integer" else "TEXT"
    return "{" + ", ".join(f"{name}: {shape(member)}" for name, member in members.items()) + "}"


def default(node, required):
    if required:
        return "must be set"
    value = node.get("default")
    if value is None or value == [] or value == {} or value == "":
        return "none"
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value)
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(value)}`"


def text(words):
    """Doc comments are wrapped; Markdown wraps by itself. Blank lines stay."""
    return "\n\n".join(" ".join(part.split("\n")) for part in words.split("\n\n"))


def main():
    schema = json.load(sys.stdin)
    reference = Reference(schema)
    reference.sections(schema)
    print("\n".join(reference.lines))


if __name__ == "__main__":
    main()
