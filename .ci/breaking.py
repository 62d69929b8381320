#!/usr/bin/env python3
"""Tells which changes of the API description break clients of the last release: breaking.py [OLD NEW]

Without arguments: the description of the newest tag `v*`, and the one in the tree; before the first release there is
nothing to break. What counts as compatible stands in the introduction of the description: new operations, new optional
members, new values and new codes in answers.
"""
import copy
import json
import subprocess
import sys

DESCRIPTION = "openapi/openapi.json"


class Comparison:
    def __init__(self, old, new):
        self.old, self.new, self.found = old, new, []
        for path, item in old["paths"].items():
            for method, operation in item.items():
                self.operation(f"{method.upper()} {path}", operation, new["paths"].get(path, {}).get(method))

    def operation(self, at, old, new):
        if new is None:
            return self.found.append(f"{at}: the operation is gone")
        if old["operationId"] != new["operationId"]:
            self.found.append(f"{at}: operationId {old['operationId']} became {new['operationId']}")
        lost = [one for one in old.get("security", []) if one not in new.get("security", [])]
        if lost:
            self.found.append(f"{at}: {json.dumps(lost)} is not enough any more")
        parameters = {(one["in"], one["name"]): one for one in new.get("parameters", [])}
        known = {(one["in"], one["name"]): one for one in old.get("parameters", [])}
        for key, parameter in known.items():
            if key not in parameters:
                self.found.append(f"{at}: the parameter {key[1]} is gone")
            else:
                self.taken(f"{at} {key[1]}", parameter["schema"], parameters[key]["schema"], ())
        for key, parameter in parameters.items():
            if parameter.get("required") and not known.get(key, {}).get("required"):
                self.found.append(f"{at}: the parameter {key[1]} is required")
        self.contents(at, old.get("requestBody", {}), new.get("requestBody", {}), self.taken)
        for status, response in old["responses"].items():
            if not status.startswith("2"):
                continue
            if status not in new["responses"]:
                self.found.append(f"{at}: {status} is gone")
                continue
            response, other = (of(whole, one["responses"][status]) for whole, one in ((self.old, old), (self.new, new)))
            self.contents(f"{at} {status}", response, other, self.given)

    def contents(self, at, old, new, compare):
        for kind, content in old.get("content", {}).items():
            other = new.get("content", {}).get(kind)
            if other is None:
                self.found.append(f"{at}: {kind} is gone")
            elif "schema" in content:
                compare(f"{at} {kind}", content["schema"], other.get("schema", {}), ())

    def both(self, old, new):
        return of(self.old, old), of(self.new, new)

    def types(self, at, old, new, wider_is_fine):
        """`wider_is_fine`: more types may be taken, fewer may be given."""
        old_types, new_types = types(old), types(new)
        lost = old_types - new_types if wider_is_fine else new_types - old_types
        if old_types and new_types and lost:
            self.found.append(f"{at}: {'/'.join(sorted(old_types))} became {'/'.join(sorted(new_types))}")

    def taken(self, at, old, new, seen):
        """A schema of what clients send: what was taken is taken."""
        if (seen_once := json.dumps(old, sort_keys=True)) in seen:
            return
        old, new = self.both(old, new)
        self.types(at, old, new, True)
        if "enum" in new and (gone := set(old.get("enum", [])) - set(new["enum"]) or "enum" not in old):
            self.found.append(f"{at}: {'fewer values' if gone is True else ', '.join(sorted(map(str, gone))) + ' is not taken any more'}")
        for name, narrower in (("maxLength", min), ("maximum", min), ("maxItems", min), ("minLength", max), ("minimum", max), ("minItems", max)):
            before, after = old.get(name), new.get(name)
            if after is not None and (before is None or (after != before and narrower(after, before) == after)):
                if before is not None or name.startswith("max") or after > 0:
                    self.found.append(f"{at}: {name} {before} became {after}")
        if "pattern" in new and new["pattern"] != old.get("pattern"):
            self.found.append(f"{at}: pattern {old.get('pattern')} became {new['pattern']}")
        for name in sorted(set(new.get("required", [])) - set(old.get("required", []))):
            self.found.append(f"{at}: {name} is required")
        self.within(at, old, new, (*seen, seen_once), self.taken, "is not taken any more")

    def given(self, at, old, new, seen):
        """A schema of what the service answers: what was there is there, and is of its kind."""
        if (seen_once := json.dumps(old, sort_keys=True)) in seen:
            return
        old, new = self.both(old, new)
        self.types(at, old, new, False)
        for name in sorted(set(old.get("required", [])) - set(new.get("required", []))):
            self.found.append(f"{at}: {name} may be missing")
        self.within(at, old, new, (*seen, seen_once), self.given, "is gone")

    def within(self, at, old, new, seen, compare, gone):
        """Members and items, by the same rules."""
        for name, member in old.get("properties", {}).items():
            if name not in new.get("properties", {}):
                self.found.append(f"{at}: {name} {gone}")
            else:
                compare(f"{at}/{name}", member, new["properties"][name], seen)
        if "items" in old:
            compare(f"{at}[]", old["items"], new.get("items", {}), seen)


def of(description, described):
    """What stands behind references, and behind a choice with null."""
    while "$ref" in described:
        target = description
        for part in described["$ref"].split("/")[1:]:
            target = target[part]
        described = target
    choices = [one for one in described.get("oneOf", []) if one.get("type") != "null"]
    if len(choices) == 1:
        inner = of(description, choices[0])
        return {**inner, "type": [*types(inner), "null"]}
    return described


def types(schema):
    kinds = schema.get("type", [])
    return set([kinds] if isinstance(kinds, str) else kinds)


def released():
    """The description of the last release; `None` before the first one."""
    tags = subprocess.run(["git", "tag", "--list", "v*", "--sort=-v:refname"], capture_output=True, text=True)
    tag = next(iter(tags.stdout.split()), None) if tags.returncode == 0 else None
    if tag is None:
        return None
    text = subprocess.run(["git", "show", f"{tag}:{DESCRIPTION}"], capture_output=True, text=True, check=True).stdout
    return tag, json.loads(text)


def try_it_out(description):
    """Breaks the description in each way, and lets it grow in each way that is compatible."""
    issue = ("paths", "/v1/magic-links", "post")
    link = ("components", "schemas", "LinkResponse")

    def at(tree, *path):
        for part in path:
            tree = tree[part]
        return tree

    def broken(change):
        other = copy.deepcopy(description)
        change(other)
        return Comparison(description, other).found

    breaking = {
        "the operation is gone": lambda d: d["paths"].pop("/v1/magic-links"),
        "operationId": lambda d: at(d, *issue).update(operationId="grant"),
        "is not enough any more": lambda d: at(d, *issue).update(security=[{"bearer": ["admin"]}]),
        "the parameter ticket is gone": lambda d: at(d, "paths", "/v1/magic-links", "get").update(
            parameters=[one for one in at(d, "paths", "/v1/magic-links", "get", "parameters") if one["name"] != "ticket"]),
        "is required": lambda d: at(d, "components", "schemas", "IssueLink", "required").append("ticket"),
        "reason is not taken any more": lambda d: at(d, "components", "schemas", "IssueLink", "properties").pop("reason"),
        "maxLength": lambda d: at(d, "components", "schemas", "IssueLink", "properties", "reason").update(maxLength=3),
        "is not taken any more": lambda d: at(d, "components", "schemas", "Access", "enum").remove("read_only"),
        "expires_at is gone": lambda d: at(d, *link, "properties").pop("expires_at"),
        "expires_at may be missing": lambda d: at(d, *link, "required").remove("expires_at"),
        "string became integer": lambda d: at(d, *link, "properties", "expires_at").update(type="integer"),
        "201 is gone": lambda d: at(d, *issue, "responses").pop("201"),
        "text/csv is gone": lambda d: at(d, "paths", "/v1/audit-events/export", "get", "responses", "200", "content").pop("text/csv"),
    }
    for expected, change in breaking.items():
        found = broken(change)
        assert any(expected in one for one in found), f"not noticed: {expected}; found {found}"
    growing = [
        lambda d: d["paths"].update({"/v1/more": at(d, "paths", "/v1/magic-links")}),
        lambda d: at(d, "components", "schemas", "IssueLink", "properties").update(more={"type": "string", "maxLength": 5}),
        lambda d: at(d, *link, "properties").update(more={"type": "string"}),
        lambda d: at(d, "components", "schemas", "LinkState", "enum").append("more"),
        lambda d: at(d, "components", "schemas", "IssueLink", "properties", "reason").update(maxLength=5000),
        lambda d: at(d, *issue, "responses").update({"299": {"description": "more"}}),
    ]
    for change in growing:
        assert not broken(change), broken(change)


def main():
    with open(DESCRIPTION if len(sys.argv) < 3 else sys.argv[2]) as file:
        new = json.load(file)
    if len(sys.argv) < 3:
        try_it_out(new)
        last = released()
        if last is None:
            print("no release so far: nothing can break")
            return 0
        name, old = last
    else:
        name = sys.argv[1]
        with open(name) as file:
            old = json.load(file)
    found = Comparison(old, new).found
    for one in found:
        print(one)
    print(f"{len(found)} breaking changes since {name}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
