#!/usr/bin/env python3
"""Counts the circles in src/: between top-level modules, and between files. `make house` runs it.

A file has an arrow to another one when a path in it (`use` or inline, in macros too) leads to that file's module or to
an item that is defined there; re-exports are followed to the definition. `mod x;` is no arrow, nor is `pub use x::Y`
where the file itself makes no use of `Y`. Between top-level modules every path counts as it is written. Comments,
strings, tests, `main.rs` and `lib.rs` do not count.

    .ci/circles.py [FOLDER OF THE PROJECT] [--verbose]
"""

import argparse
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

MAX_FILES_IN_CIRCLE = 7
MIN_MODULES = 18
MAX_SHARE = 0.15
# Who may call is judged in `http`: what a key is must be known to the floors below it, too.
BELOW_HTTP = "ApiKey"

TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)|(?P<block>/\*)
    |(?P<text>[bc]?r(?P<hashes>\#*)".*?"(?P=hashes)|[bc]?"(?:\\.|[^"\\])*"|b?'(?:\\.[^'\n]*|[^\\'\n])'|'\w+)
    |(?P<word>(?:r\#|\$)?\w+)|(?P<mark>::|=>|.)""",
    re.S | re.X,
)
DEFINES = {"fn", "struct", "enum", "union", "trait", "type", "const", "static"}
CLOSES = {"{": "}", "(": ")", "[": "]"}


@dataclass
class Use:
    """One name that a `use` brings into a module; `*` for all of them."""

    path: tuple
    name: str
    line: int
    public: bool


@dataclass
class Module:
    path: tuple
    file: str
    items: set = field(default_factory=set)
    uses: list = field(default_factory=list)
    inline: list = field(default_factory=list)
    words: set = field(default_factory=set)
    locals: set = field(default_factory=set)


@dataclass
class Arrow:
    """What uses what, and where one path says so."""

    source: str
    target: str
    file: str
    line: int
    path: tuple

    def __str__(self):
        return f"{self.source} -> {self.target}  ({'::'.join(self.path)} at {self.file}:{self.line})"


# Reading


def tokens_of(text):
    """Words and marks with their lines; comments and literals are left out."""
    found, at, line = [], 0, 1
    while at < len(text):
        token = TOKEN.match(text, at)
        end = end_of_comment(text, at) if token["block"] else token.end()
        if token["word"] or token["mark"]:
            found.append((token[0].removeprefix("r#"), line))
        elif token["text"]:
            found.append(('""', line))
        line += text.count("\n", at, end)
        at = end
    return found


def end_of_comment(text, at):
    """Block comments nest."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


class Reader:
    """Reads one file into its modules: its own one, and those that stand inside it."""

    def __init__(self, text, path, file):
        self.tokens = tokens_of(text)
        self.modules = [Module(path, file)]
        self.test_modules = set()
        self.declared = []
        # What each open brace is: the module it belongs to, "macro" for a macro's call among items, or None.
        self.open = [self.modules[0]]
        self.read()

    def word(self, at):
        return self.tokens[at][0] if 0 <= at < len(self.tokens) else ""

    @property
    def module(self):
        return next(module for module in reversed(self.open) if isinstance(module, Module))

    def read(self):
        at = 0
        while at < len(self.tokens):
            at = self.step(at)

    def step(self, at):
        word, after = self.word(at), self.word(at + 1)
        if word == "#":
            return self.attribute(at)
        if word == "use" and after != "<":
            return self.use(at)
        if word == "mod" and self.word(at + 2) == "{":
            self.modules.append(Module((*self.module.path, after), self.modules[0].file))
            self.open.append(self.modules[-1])
            return at + 3
        if word == "{":
            is_call = self.word(at - 1) == "!" and self.word(at - 2) != "macro_rules"
            self.open.append("macro" if is_call and self.open[-1] is not None else None)
        elif word == "}" and len(self.open) > 1:
            self.open.pop()
        elif re.match(r"[$\w]", word):
            return self.name(at)
        return at + 1

    def attribute(self, at):
        """Steps into an attribute, or over an item that only tests have."""
        inner = self.word(at + 1) == "!"
        start = at + 1 + inner
        if [self.word(start + i) for i in range(6)] != ["[", "cfg", "(", "test", ")", "]"]:
            return start + 1
        if inner:
            self.test_modules.add(self.module.path)
            return len(self.tokens)
        return self.end_of_item(start + 6)

    def end_of_item(self, at):
        while self.word(at) == "#":
            at = self.closing(at + 1) + 1
        head = [self.word(i) for i in range(at, at + 8)]
        head = head[head.index(")") + 1 :] if head[:2] == ["pub", "("] and ")" in head else head
        head = head[1:] if head[0] == "pub" else head
        if head[0] == "mod":
            self.test_modules.add((*self.module.path, head[1]))
        is_value = head[0] == "const" and head[1] not in ("fn", "unsafe", "async", "extern")
        has_body = not is_value and head[0] not in ("use", "static", "type", "let")
        # A comma ends a field or a variant; in the head of an item it stands between generics.
        ends = (";",) if head[0] in DEFINES | {"impl", "mod", "use", "unsafe", "async"} else (";", ",")
        while at < len(self.tokens) and self.word(at) not in ends:
            if self.word(at) == "{" and has_body:
                return self.closing(at) + 1
            at = self.closing(at) + 1 if self.word(at) in CLOSES else at + 1
        return at + 1

    def closing(self, at):
        start, end, depth = self.word(at), CLOSES[self.word(at)], 0
        for here in range(at, len(self.tokens)):
            depth += (self.word(here) == start) - (self.word(here) == end)
            if depth == 0:
                return here
        return len(self.tokens)

    def name(self, at):
        """A definition, a path, or a word by itself."""
        word, before, after = self.word(at), self.word(at - 1), self.word(at + 1)
        is_item = before in DEFINES or (before == "!" and self.word(at - 2) == "macro_rules")
        if is_item and self.open[-1] is not None:
            self.module.items.add(word)
            return at + 1
        if before == "mod":
            self.declared.append(word)
            return at + 1
        path, end = [word], at + 1
        while self.word(end) == "::" and re.match(r"[$\w]", self.word(end + 1)):
            path.append(self.word(end + 1))
            end += 2
        in_visibility = before == "in" and self.word(at - 2) == "(" and self.word(at - 3) == "pub"
        if before in ("::", ".") or in_visibility:
            return end
        if len(path) > 1:
            self.module.inline.append((tuple(path), self.tokens[at][1]))
        if "let" in (before, self.word(at - 2) if before == "mut" else ""):
            self.module.locals.add(word)
        elif after != ":" and before != "fn":
            self.module.words.add(word)
        return end

    def use(self, at):
        before = [self.word(i) for i in range(at - 1, at - 12, -1)]
        public = before[0] == "pub" or (before[0] == ")" and "(" in before and before[before.index("(") + 1] == "pub")
        return self.branch(at + 1, (), public) + 1

    def branch(self, at, prefix, public):
        """One branch of a `use`, up to its comma, brace or semicolon."""
        if self.word(at) == "::":
            prefix, at = ("::",), at + 1
        while self.word(at + 1) == "::":
            prefix, at = (*prefix, self.word(at)), at + 2
        word = self.word(at)
        if word == "{":
            at += 1
            while self.word(at) not in ("}", ""):
                at = self.branch(at, prefix, public)
                at += self.word(at) == ","
            return at + 1
        path = prefix if word in ("self", "*") and prefix else (*prefix, word)
        name, at = ("*" if word == "*" else path[-1]), at + 1
        if self.word(at) == "as":
            name, at = self.word(at + 1), at + 2
        # `pub(crate) use a_macro;` makes a macro of this file an item of it.
        if path != (name,):
            self.module.uses.append(Use(path, name, self.tokens[at - 1][1], public))
        return at


# Resolving


class Tree:
    """All modules of a crate."""

    def __init__(self, src):
        self.modules, self.lines, self.floors, test_modules = {}, defaultdict(int), [], set()
        for file in sorted(src.rglob("*.rs")):
            name = file.relative_to(src).as_posix()
            path = module_path(name)
            if path is None:
                continue
            text = file.read_text()
            if path:
                self.lines[path[0]] += text.count("\n")
            reader = Reader(text, path, name)
            test_modules |= reader.test_modules
            if not path:
                self.floors = reader.declared
            self.modules.update({module.path: module for module in reader.modules})
        for path in list(self.modules):
            if "tests" in path or any(path[:depth] in test_modules for depth in range(1, len(path) + 1)):
                del self.modules[path]
        self.lines = {name: lines for name, lines in self.lines.items() if (name,) in self.modules}

    def start(self, module, path):
        """The module from which a path counts, and the rest of the path; none for a path out of the crate."""
        head, rest = path[0], path[1:]
        if head in ("crate", "$crate"):
            return (), rest
        if head == "self":
            return self.walk_up(module.path, rest)
        if head == "super":
            return self.walk_up(module.path, path)
        bound = (*module.path, head) in self.modules or any(use.name == head for use in module.uses)
        return (module.path, path) if bound else (None, rest)

    @staticmethod
    def walk_up(base, rest):
        while rest and rest[0] == "super":
            base, rest = base[:-1], rest[1:]
        return base, rest

    def resolve(self, module, path, seen=frozenset()):
        """The module or, with its file, the item that a path leads to: `(module, None)`, `(None, file)`, or neither."""
        base, rest = self.start(module, path)
        if base is None or (module.path, path) in seen:
            return None, None
        return self.descend(base, rest, seen | {(module.path, path)})

    def descend(self, base, rest, seen):
        while rest:
            here, name, is_last = self.modules.get(base), rest[0], len(rest) == 1
            if here is None:
                return None, None
            child, use = (*base, name), next((use for use in here.uses if use.name == name), None)
            # Last in a path, the name is rather that of the function which is called like its file.
            if child in self.modules and not (is_last and use):
                base, rest = child, rest[1:]
            elif name in here.items:
                return None, here.file
            elif use is None:
                return self.through_globs(here, rest, seen) or (None, here.file)
            else:
                base, file = self.resolve(here, use.path, seen)
                if base is None:
                    return None, file
                rest = rest[1:]
        return base, None

    def through_globs(self, here, rest, seen):
        for use in here.uses:
            target = self.resolve(here, use.path, seen)[0] if use.name == "*" else None
            known = self.modules.get(target)
            if known and (rest[0] in known.items or any(use.name == rest[0] for use in known.uses)):
                return self.descend(target, rest, seen)
        return None

    def file_of(self, module, path):
        target, file = self.resolve(module, path)
        return file or (self.modules[target].file if target in self.modules else None)

    def paths(self, with_reexports):
        for module in self.modules.values():
            if module.path:
                for use in module.uses:
                    if with_reexports or not use.public or use.name in module.words - module.locals:
                        yield module, use.path, use.line
                for path, line in module.inline:
                    yield module, path, line

    def arrows_between_modules(self):
        for module, path, line in self.paths(with_reexports=True):
            base, rest = self.start(module, path)
            full = (*(base or ()), *rest) if base is not None else ()
            if full and full[0] != module.path[0] and full[:1] in self.modules:
                yield Arrow(module.path[0], full[0], module.file, line, path)

    def arrows_between_files(self):
        for module, path, line in self.paths(with_reexports=False):
            target = self.file_of(module, path)
            if target not in (None, module.file, "lib.rs"):
                yield Arrow(module.file, target, module.file, line, path)

    def home_of(self, item):
        """The top-level modules that define an item of this name."""
        return sorted({module.path[0] for module in self.modules.values() if module.path and item in module.items})


def module_path(name):
    """`a/b.rs` and `a/b/mod.rs` are `a::b`, `lib.rs` is the root; `main.rs` is nothing."""
    parts = name.removesuffix(".rs").split("/")
    if parts == ["main"]:
        return None
    if parts == ["lib"]:
        return ()
    return tuple(parts[:-1] if parts[-1] == "mod" else parts)


def circles(arrows):
    """Sets of nodes that reach each other, the largest first (Kosaraju's two walks)."""
    forth, back = defaultdict(set), defaultdict(set)
    for source, target in arrows:
        forth[source].add(target)
        back[target].add(source)
    order, seen = [], set()
    for node in sorted(set(forth) | set(back)):
        order += walk(node, forth, seen)
    found, seen = [], set()
    for node in reversed(order):
        found.append(sorted(walk(node, back, seen)))
    return sorted((part for part in found if len(part) > 1), key=lambda part: (-len(part), part))


def walk(start, edges, seen):
    """What is reached for the first time, each node after all that it leads to."""
    done, stack = [], [(start, False)]
    while stack:
        node, is_left = stack.pop()
        if is_left:
            done.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(target, False) for target in sorted(edges[node])]
    return done


# Telling


def show_circle(part, examples):
    print(f"  {len(part)}: {' '.join(part)}")
    for (source, target), text in sorted(examples.items()):
        if source in part and target in part:
            print(f"      {text}")


def broken_rules(tree, of_modules, of_files, share):
    """Each rule that does not hold, in a sentence."""
    largest = max(map(len, of_files), default=0)
    homes, floors = tree.home_of(BELOW_HTTP), tree.floors
    below = floors[: floors.index("http")] if "http" in floors else []
    rules = [
        (not of_modules, f"{len(of_modules)} circles between modules; there may be none"),
        (largest <= MAX_FILES_IN_CIRCLE, f"{largest} files in one circle; at most {MAX_FILES_IN_CIRCLE}"),
        (len(tree.lines) >= MIN_MODULES, f"{len(tree.lines)} top-level modules; at least {MIN_MODULES}"),
        (share <= MAX_SHARE, f"{share:.1%} of the lines in one module; at most {MAX_SHARE:.0%}"),
        (
            len(homes) == 1 and homes[0] in below,
            f"`{BELOW_HTTP}` is defined in {', '.join(homes) or 'no module'}; it belongs below `http` in lib.rs",
        ),
    ]
    return [sentence for holds, sentence in rules if not holds]


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("project", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    options.add_argument("--verbose", action="store_true", help="show every arrow and every circle")
    options = options.parse_args()

    tree = Tree(options.project / "src")
    modules, files = {}, {}
    for arrow in tree.arrows_between_modules():
        modules.setdefault((arrow.source, arrow.target), str(arrow))
    for arrow in tree.arrows_between_files():
        files.setdefault((arrow.source, arrow.target), str(arrow))
    of_modules, of_files = circles(modules), circles(files)
    total = sum(tree.lines.values())
    widest = max(tree.lines, key=tree.lines.get, default="none")
    share = tree.lines.get(widest, 0) / max(total, 1)
    broken = broken_rules(tree, of_modules, of_files, share)

    print(f"{len(tree.lines)} top-level modules; the largest is {widest} with {share:.1%} of {total} lines")
    for parts, what in ((of_modules, "between modules"), (of_files, "of files")):
        print(f"{len(parts)} circles {what}" + (f", the largest of {len(parts[0])}" if parts else ""))
    if options.verbose:
        print("arrows between modules:", *modules.values(), "arrows between files:", *files.values(), sep="\n  ")
    if of_modules and (broken or options.verbose):
        print("circles between modules:")
        for part in of_modules:
            show_circle(part, modules)
    too_large = [part for part in of_files if options.verbose or len(part) > MAX_FILES_IN_CIRCLE]
    if too_large:
        print("circles of files:")
        for part in too_large:
            show_circle(part, files)
    for sentence in broken:
        print(f"not kept: {sentence}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
