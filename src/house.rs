//! What the compiler does not check: which module uses which, and what stays out of which file.
//!
//! The sources are read as rustfmt leaves them; comments and tests do not count.

use std::fs;
use std::path::{Path, PathBuf};

/// Files outside `records`, `access` and `db` that name the tables of links and sessions, each with its reason.
const NAMING_TABLES: &[(&str, &str)] = &[
    ("mail/store.rs", "a mail about a link that has ended is cancelled, pending bulk revocations included"),
    ("mail/store/put_off.rs", "a mail that is made due waits for its link to begin"),
    (
        "mail/store/claims.rs",
        "the guarded UPDATE that claims a mail judges its link, pending bulk revocations included",
    ),
];

/// What stays out of files and folders of these names.
const KEPT_OUT: [(&str, &[&str]); 2] =
    [("diesel", &["routes"]), ("actix_web", &["records", "store", "journal", "db", "statements"])];

/// Every source file in a folder: its path below `src` without `.rs`, and its text.
fn sources(src: &Path, folder: &Path) -> Vec<(String, String)> {
    let rust = texts(src, folder).into_iter();
    rust.filter_map(|(path, text)| Some((path.strip_suffix(".rs")?.to_owned(), text))).collect()
}

/// Every file of Rust or SQL in a folder, in order: its path below `root`, and its text.
fn texts(root: &Path, folder: &Path) -> Vec<(String, String)> {
    let read = |path: PathBuf| match path.extension().and_then(|kind| kind.to_str()) {
        _ if path.is_dir() => texts(root, &path),
        Some("rs" | "sql") => {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            vec![(name, fs::read_to_string(&path).unwrap())]
        }
        _ => vec![],
    };
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().flat_map(|entry| read(entry.unwrap().path())).collect();
    found.sort();
    found
}

/// The modules that a file declares, in order: those of tests, or the others.
fn declared(text: &str, of_tests: bool) -> impl Iterator<Item = &str> {
    let lines = [""].into_iter().chain(text.lines()).zip(text.lines());
    let lines = lines.filter(move |(before, _)| (*before == "#[cfg(test)]") == of_tests);
    let modules = lines.filter_map(|(_, line)| line.strip_suffix(';')?.split_once("mod "));
    modules.filter(|(shown, _)| shown.is_empty() || shown.starts_with("pub")).map(|(_, name)| name)
}

/// The text without comments, up to its tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect()
}

/// The names that come next after a part of a path, alone or in braces, with their lines.
fn names_after<'a>(code: &'a str, part: &str) -> Vec<(usize, &'a str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let starts = code.match_indices(part).map(|(at, _)| code.split_at(at));
    let branches = starts.filter(|(before, _)| !before.ends_with(is_word)).flat_map(|(before, rest)| {
        let line = 1 + before.matches('\n').count();
        branches(rest.strip_prefix(part).unwrap()).into_iter().map(move |branch| (line, branch))
    });
    branches.map(|(line, branch)| (line, branch.trim().split(|c| c != '*' && !is_word(c)).next().unwrap())).collect()
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

/// Lines and names in one file (without `.rs`) that do not belong there.
fn faults<'a>(floors: &[&str], path: &str, code: &'a str) -> Vec<(usize, &'a str)> {
    let parts: Vec<&str> = path.split('/').collect();
    let floor = |name: &str| floors.iter().position(|known| *known == name);
    let (own, mut found) = (floor(parts[0]), names_after(code, "crate::"));
    found.retain(|(_, name)| own.is_some() && floor(name) > own);
    for (word, _) in KEPT_OUT.iter().filter(|(_, names)| parts.iter().any(|part| names.contains(part))) {
        found.extend(code.lines().zip(1..).filter(|(line, _)| line.contains(word)).map(|(_, at)| (at, *word)));
    }
    let is_named = NAMING_TABLES.iter().any(|(file, _)| file.strip_suffix(".rs") == Some(path));
    if !is_named && !["records", "access", "db"].contains(&parts[0]) {
        let tables = names_after(code, "schema::").into_iter();
        found.extend(tables.filter(|(_, name)| ["magic_links", "sessions", "*"].contains(name)));
    }
    found
}

#[test]
fn everything_stands_where_it_belongs() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (sources, mut floors, mut tests, mut found) = (sources(&src, &src), vec![], vec![], vec![]);
    for (path, text) in &sources {
        let folder = if path == "lib" { "" } else { path.strip_suffix("/mod").unwrap_or(path) };
        tests.extend(declared(text, true).map(|name| Path::new(folder).join(name)));
        floors.extend(declared(text, false).filter(|_| path == "lib"));
    }
    for (path, text) in sources.iter().filter(|(path, _)| !tests.iter().any(|test| Path::new(path).starts_with(test))) {
        let code = code(text);
        let faults = faults(&floors, path, &code).into_iter();
        found.extend(faults.map(|(line, name)| format!("src/{path}.rs:{line}: `{name}` does not belong here")));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// How SQL asks the database for the time, in capitals.
const CLOCKS_OF_DATABASES: [&str; 7] = [
    "CURRENT_TIMESTAMP",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CLOCK_TIMESTAMP",
    "STATEMENT_TIMESTAMP",
    "'NOW'",
    "DSL::NOW",
];

#[test]
fn the_time_is_an_argument_of_every_statement() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut asking = vec![];
    for folder in ["src", "migrations/sqlite", "migrations/postgres"].map(|folder| root.join(folder)) {
        for (path, text) in texts(&folder, &folder).into_iter().filter(|(path, _)| path != "house.rs") {
            // `now()` is also how Rust asks our own clock.
            let is_sql = Path::new(&path).extension().is_some_and(|kind| kind == "sql");
            let code = code(&text).to_uppercase();
            if CLOCKS_OF_DATABASES.iter().any(|clock| code.contains(clock)) || is_sql && code.contains("NOW()") {
                asking.push(path);
            }
        }
    }
    // The rows that a demonstration begins with, and the look that the service's own clock follows.
    assert_eq!(asking, ["cli/demo.sql", "db/server_clock.rs"]);
}

/// The names of the types of a file that have a schema.
fn schema_names(code: &str) -> Vec<&str> {
    let first_word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let starts = code.match_indices("ToSchema)]").chain(code.match_indices("text_enum! {"));
    let declared = starts.filter_map(|(at, _)| {
        let rest = code.split_at(at).1;
        let names = ["struct ", "enum "].into_iter().filter_map(|word| Some(rest.find(word)? + word.len()));
        Some(rest.split_at(names.min()?).1)
    });
    declared.map(|name| name.split_at(first_word(name)).0).collect()
}

/// Two types of one name would be one schema, and what the second has would be told of the first.
#[test]
fn each_schema_of_the_api_description_has_a_name_of_its_own() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names: Vec<(String, String)> = Vec::new();
    for (path, text) in sources(&src, &src).iter().filter(|(path, _)| path != "house" && !path.ends_with("text_enum")) {
        let code = code(text);
        names.extend(
            schema_names(&code).into_iter().map(|name| (name.to_lowercase(), format!("src/{path}.rs: {name}"))),
        );
    }
    names.sort_unstable();
    assert!(names.len() > 100, "{}", names.len());
    for pair in names.windows(2) {
        assert!(pair[0].0 != pair[1].0, "{} and {}", pair[0].1, pair[1].1);
    }
}

/// Holds what is found in a file, in a house of three floors, against what should be.
fn finds(path: &str, text: &str, expected: &[(usize, &str)]) {
    assert_eq!(faults(&["records", "sessions", "links"], path, &code(text)), expected, "{text}");
}

#[test]
fn a_path_up_is_found() {
    finds("records/links", "use crate::{\n    records::{links::A, B},\n    links::{C},\n};", &[(1, "links")]);
    finds("sessions", "m!(\n$crate::links::f(), crate::records::g(), a_crate::links::h());", &[(2, "links")]);
    finds("sessions", "// crate::links\n\n#[cfg(test)]\nmod tests {\n    use crate::links;\n}\n", &[]);
}

#[test]
fn diesel_in_routes_and_actix_beside_statements_are_found() {
    finds("links/routes", "\nuse diesel::prelude::*;\nuse actix_web::web;", &[(2, "diesel")]);
    finds("links/store", "\nuse diesel::prelude::*;\nuse actix_web::web;", &[(3, "actix_web")]);
    finds("records/links", "use actix_web::web;", &[(1, "actix_web")]);
}

#[test]
fn a_table_outside_records_is_found() {
    let text = "use crate::db::schema::{step_ups, sessions as s,};\nuse crate::db::{Conn, schema::magic_links};";
    finds("links/store", text, &[(1, "sessions"), (2, "magic_links")]);
    finds("links/store", "use crate::db::schema::*;", &[(1, "*")]);
    finds("records/links", "use crate::db::schema::magic_links;", &[]);
}
