//! What the compiler does not check: which module uses which, and what stays out of which file.
//!
//! The sources are read as rustfmt leaves them; comments and tests do not count.

use std::fs;
use std::path::Path;

/// Files outside `records`, `access` and `db` that name the tables of links and sessions, each with its reason.
const NAMING_TABLES: &[(&str, &str)] =
    &[("mail/store.rs", "the guarded UPDATE that claims a mail judges its link, pending bulk revocations included")];

/// The path below `src` and the text of each file.
fn files(src: &Path, folder: &str) -> Vec<(String, String)> {
    let read = |entry: fs::DirEntry| {
        let path = format!("{folder}{}", entry.file_name().display());
        match entry.path() {
            full if full.is_dir() => files(src, &format!("{path}/")),
            full if path.ends_with(".rs") => vec![(path, fs::read_to_string(full).unwrap())],
            _ => vec![],
        }
    };
    fs::read_dir(src.join(folder)).unwrap().flat_map(|entry| read(entry.unwrap())).collect()
}

/// The modules that a file declares, in order: those of tests, or the others.
fn declared(text: &str, of_tests: bool) -> impl Iterator<Item = &str> {
    let lines = [""].into_iter().chain(text.lines()).zip(text.lines());
    let lines = lines.filter(move |(before, _)| (before.trim() == "#[cfg(test)]") == of_tests);
    let modules = lines.filter_map(|(_, line)| line.strip_suffix(';')?.split_once("mod "));
    modules.filter(|(shown, _)| shown.is_empty() || shown.starts_with("pub")).map(|(_, name)| name)
}

/// The text without comments and without the modules of tests in it; lines keep their numbers.
fn code(text: &str) -> String {
    let (mut code, mut before, mut in_tests) = (String::new(), "", false);
    for line in text.lines() {
        in_tests |= before == "#[cfg(test)]" && line.contains("mod ") && line.ends_with('{');
        code += if in_tests { "" } else { line.split("//").next().unwrap() };
        code += "\n";
        in_tests &= line != "}";
        before = line;
    }
    code
}

/// The names that come next after a part of a path, alone or in braces, with their lines.
fn names_after<'a>(code: &'a str, part: &str) -> Vec<(usize, &'a str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let starts = code.match_indices(part).map(|(at, _)| code.split_at(at));
    let starts = starts.filter(|(before, _)| !before.ends_with(is_word));
    let branches = starts.flat_map(|(before, rest)| {
        let line = 1 + before.matches('\n').count();
        branches(rest.strip_prefix(part).unwrap()).into_iter().map(move |branch| (line, branch))
    });
    let branches = branches.map(|(line, branch)| (line, branch.trim())).filter(|(_, branch)| !branch.is_empty());
    branches.map(|(line, branch)| (line, branch.split(|c| !is_word(c)).next().unwrap())).collect()
}

/// What stands between the commas of braces, or the text itself where it opens none.
fn branches(text: &str) -> Vec<&str> {
    let Some(group) = text.strip_prefix('{') else { return vec![text] };
    let mut depth = 1;
    let mut depth_after = |c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth
    };
    let end = group.find(|c| depth_after(c) == 0).unwrap();
    group.split_at(end).0.split(|c| depth_after(c) == 0 && c == ',').collect()
}

/// Every fault of one file.
fn faults(floors: &[&str], path: &str, code: &str) -> Vec<String> {
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    let is_in = |names: &[&str]| parts.iter().any(|part| names.contains(part));
    let floor = |name: &str| floors.iter().position(|known| *known == name);
    let own = floor(parts[0]);
    let lines =
        |word| code.lines().zip(1..).filter(move |(text, _)| text.contains(word)).map(move |(_, at)| (at, word));

    let mut found = names_after(code, "crate::");
    found.retain(|(_, name)| own.is_some() && floor(name) > own);
    if is_in(&["routes"]) {
        found.extend(lines("diesel"));
    }
    if is_in(&["records", "store", "journal", "db", "statements"]) {
        found.extend(lines("actix_web"));
    }
    if !["records", "access", "db"].contains(&parts[0]) && NAMING_TABLES.iter().all(|(file, _)| *file != path) {
        let tables = names_after(code, "schema::").into_iter();
        // A glob has no name.
        found.extend(tables.filter(|(_, name)| ["magic_links", "sessions", ""].contains(name)));
    }
    found.into_iter().map(|(line, name)| format!("src/{path}:{line}: `{name}` does not belong here")).collect()
}

#[test]
fn the_house_stands() {
    let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "");
    let (mut floors, mut tests) = (vec![], vec![]);
    for (path, text) in &files {
        let folder = path.replace("lib.rs", "").replace("/mod.rs", "/").replace(".rs", "/");
        tests.extend(declared(text, true).map(|name| folder.clone() + name));
        floors.extend(declared(text, false).filter(|_| path == "lib.rs"));
    }
    let is_test = |path: &str| {
        let mut rests = tests.iter().filter_map(|test| path.strip_prefix(test.as_str()));
        rests.any(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    let files = files.iter().filter(|(path, _)| !is_test(path));
    let faults: Vec<String> = files.flat_map(|(path, text)| faults(&floors, path, &code(text))).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Holds the faults of a file, in a house of three floors, against lines and names.
fn finds(path: &str, text: &str, expected: &[&str]) {
    let faults = faults(&["records", "sessions", "links"], path, &code(text));
    let expected: Vec<_> = expected.iter().map(|at| format!("src/{path}:{at} does not belong here")).collect();
    assert_eq!(faults, expected, "{text}");
}

#[test]
fn a_path_up_is_found() {
    finds("records/links.rs", "use crate::{\n    records::{links::A, B},\n    links::{C},\n};", &["1: `links`"]);
    finds("sessions.rs", "x!(\n$crate::links::f(), crate::records::g(), crate::sessions::h());", &["2: `links`"]);
    finds(
        "sessions.rs",
        "// crate::links\n#[cfg(test)]\nmod tests {\n    use crate::links;\n}\n\nuse crate::links;",
        &["7: `links`"],
    );
    finds("main.rs", "use other_crate::links; use crate::links;", &[]);
}

#[test]
fn diesel_in_routes_is_found() {
    finds("links/routes.rs", "\nuse diesel::prelude::*;", &["2: `diesel`"]);
    finds("links/store.rs", "use diesel::prelude::*;", &[]);
}

#[test]
fn actix_below_http_is_found() {
    for path in ["records/links.rs", "links/store.rs", "links/statements.rs"] {
        finds(path, "use actix_web::web;", &["1: `actix_web`"]);
    }
    finds("links/routes.rs", "use actix_web::web;", &[]);
}

#[test]
fn a_table_outside_records_is_found() {
    finds("links/store.rs", "use crate::db::schema::{step_ups, sessions as s};", &["1: `sessions`"]);
    finds("links/store.rs", "use crate::db::{Conn, schema::magic_links};", &["1: `magic_links`"]);
    finds("links/store.rs", "use crate::db::schema::*;", &["1: ``"]);
    finds("records/links.rs", "use crate::db::schema::magic_links;", &[]);
}
