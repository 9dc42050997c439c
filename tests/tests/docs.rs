//! The examples of the documents: what README, `docs/` and Python's README show is run, read or compiled.
//!
//! * `console`: the lines after `$ ` run in one shell, in a home with image `tiny`, each in the folder that the page begins in. A
//!   command succeeds, or ends with the code that its comment names (`# exit code 3`).
//! * `toml`: vmint reads it as its settings, unless it is another program's.
//! * `json`, `python`: parsed, compiled. `rust`: by the doc tests of the crate `vmint`.
//!
//! A block that cannot be run says why behind its language: `(not run: …)`. There are few of them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmint_tests::{Home, Project};

/// Blocks with a reason not to run. Raise it only for what really cannot run.
const MOST_NOT_RUN: usize = 14;

/// A block of code in a page.
#[derive(Debug)]
struct Block {
    page: String,
    line: usize,
    language: String,
    /// Why it is not run.
    not_run: Option<String>,
    text: String,
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("tests/ lies in the repository")
        .to_owned()
}

/// All pages with examples, by their paths in the repository.
fn pages() -> Vec<String> {
    let docs = fs::read_dir(root().join("docs")).expect("docs/ is there");
    let mut pages: Vec<_> = docs
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| name.ends_with(".md"))
        .chain(["README.md", "python/README.md"].map(str::to_owned))
        .collect();
    pages.sort();
    pages
}

fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (line, text) in text.lines().enumerate() {
        let fence = text.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(info)) => {
                let (language, rest) = info.split_once([' ', ',']).unwrap_or((info, ""));
                let not_run = rest
                    .strip_prefix('(')
                    .map(|why| why.trim_end_matches(')').to_owned());
                open = Some(Block {
                    page: page.to_owned(),
                    line: line + 1,
                    language: language.to_owned(),
                    not_run,
                    text: String::new(),
                });
            }
            (Some(block), None) => block.text.extend([text, "\n"]),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block is not closed");
    blocks
}

fn all(language: &str) -> impl Iterator<Item = Block> {
    let pages = pages();
    let blocks = pages.into_iter().flat_map(|page| blocks(&page));
    blocks.filter(move |block| block.language == language && block.not_run.is_none())
}

/// The exit code that a command's comment announces.
fn announced(command: &str) -> u32 {
    let comment = command.split_once(" # ").map_or("", |(_, comment)| comment);
    let after = comment
        .split_once("exit code ")
        .map_or("", |(_, after)| after);
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// A script of a page's commands, which stops at the first that ends otherwise than it should.
fn commands(blocks: &[Block], folder: &Path) -> String {
    let mut script = String::new();
    for block in blocks {
        script += &format!("cd '{}'\n", folder.display());
        for (n, line) in block.text.lines().enumerate() {
            let Some(command) = line.strip_prefix("$ ") else {
                continue;
            };
            let place = format!("{}:{}", block.page, block.line + 1 + n);
            script += &format!(
                "{{ {command}\n}}\nstatus=$?\nif [ $status -ne {} ]; then echo \"{place} ended with $status\" >&2; exit 1; fi\n\
                 echo '{place} done' >&2\n",
                announced(command)
            );
        }
    }
    script
}

/// Runs the commands of blocks, one after the other, in a folder.
#[track_caller]
fn runs(home: &Home, blocks: &[Block], folder: &Path) {
    let script = home.runtime().join("commands");
    fs::write(&script, commands(blocks, folder)).expect("a temporary folder can be written");
    let binary = vmint_tests::call::binary();
    let mut path = OsString::from(binary.parent().expect("it lies in a folder"));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let call = home.program("bash", [&script]).env("PATH", path);
    let call = call.env("VMINT_MEMORY", "128M").env("HOME", folder);
    let call = call.current_dir(folder).deadline(Duration::from_secs(400));
    call.run().ok();
}

#[track_caller]
fn runs_in_a_home(page: &str, before: &[&str]) {
    let home = Home::new();
    for call in before {
        home.ok(call);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blocks: Vec<_> = all("console").filter(|block| block.page == page).collect();
    assert!(!blocks.is_empty(), "{page} has no commands");
    runs(&home, &blocks, folder.path());
    home.vmint("pool rm --force ci");
}

#[test]
fn the_commands_of_readme_do_what_it_says() {
    runs_in_a_home("README.md", &[]);
}

#[test]
fn the_tour_of_five_minutes_does_what_it_says() {
    runs_in_a_home("docs/five-minutes.md", &[]);
}

#[test]
fn the_commands_about_machines_do_what_they_say() {
    runs_in_a_home("docs/machines.md", &[]);
}

#[test]
fn the_commands_about_images_do_what_they_say() {
    runs_in_a_home("docs/images.md", &[]);
}

#[test]
fn the_commands_about_snapshots_do_what_they_say() {
    runs_in_a_home("docs/snapshots.md", &[]);
}

#[test]
fn the_commands_about_pools_do_what_they_say() {
    runs_in_a_home("docs/pools.md", &[]);
}

#[test]
fn the_first_steps_of_troubleshooting_do_what_they_say() {
    runs_in_a_home(
        "docs/troubleshooting.md",
        &["create box --memory 128M --start"],
    );
}

#[test]
fn the_commands_of_the_remaining_pages_do_what_they_say() {
    for page in REMAINING {
        runs_in_a_home(page, &[]);
    }
}
const REMAINING: [&str; 2] = ["docs/home.md", "docs/install.md"];

/// In a project whose third step fails until it is repaired.
#[test]
fn the_commands_about_workflows_do_what_they_say() {
    let workflow = "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - {id: checkout, uses: actions/checkout@v4}\n      \
                    - {run: echo built > built}\n      - {run: false}\n      - {run: cat built}\n";
    let project = Project::with(vmint_tests::project::TINY, workflow);
    project.commit();
    // A script that is repaired in one block is broken again in the next.
    let blocks = all("console").filter(|block| block.page == "docs/workflows.md");
    for block in blocks {
        let home = Home::new();
        project.workflow("ci", workflow);
        runs(&home, &[block], project.root());
    }
}

/// A page of which nothing is run would be forgotten.
#[test]
fn every_page_with_commands_has_a_test() {
    let own = fs::read_to_string(root().join("tests/tests/docs.rs")).unwrap();
    let mut seen = 0;
    for block in all("console").filter(|block| block.text.contains("$ ")) {
        assert!(
            own.contains(&format!("\"{}\"", block.page)),
            "no test runs the commands of {}",
            block.page
        );
        seen += 1;
    }
    assert!(seen > 15, "only {seen} blocks with commands");
}

#[test]
fn few_blocks_are_not_run_and_each_of_them_says_why() {
    let pages = pages();
    let blocks = pages.iter().flat_map(|page| blocks(page));
    let mut not_run = Vec::new();
    for block in blocks {
        let place = format!("{}:{}", block.page, block.line);
        let known = ["console", "text", "toml", "json", "yaml", "python", "rust"];
        assert!(
            known.contains(&&*block.language),
            "{place}: no test knows what to do with `{}`",
            block.language
        );
        if let Some(why) = block.not_run {
            assert!(
                why.starts_with("not run") && why.contains(": "),
                "{place}: ({why})"
            );
            not_run.push(format!("{place}: {why}"));
        }
    }
    eprintln!("{} blocks are not run: {not_run:#?}", not_run.len());
    assert!(not_run.len() <= MOST_NOT_RUN, "{not_run:#?}");
}

#[test]
fn settings_in_the_documents_are_settings() {
    let home = Home::with(vmint_tests::seed::Seed::Empty);
    let (mut own, mut others) = (0, 0);
    for block in all("toml") {
        let place = format!("{}:{}", block.page, block.line);
        let table: toml::Table = block
            .text
            .parse()
            .unwrap_or_else(|e| panic!("{place}: {e}"));
        if table.contains_key("tool") || table.contains_key("dev-dependencies") {
            others += 1;
            continue;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("vmint.toml"), &block.text).unwrap();
        // What it names lies in its folder.
        for path in ["site", "actions"] {
            fs::create_dir(folder.path().join(path)).unwrap();
        }
        let call = home.call(["config", "show"]).current_dir(folder.path());
        let outcome = call.run();
        assert!(outcome.code == Some(0), "{place}: {outcome}");
        own += 1;
    }
    assert!(own >= 5 && others >= 2, "{own} and {others}");
}

#[test]
fn json_and_python_in_the_documents_can_be_read() {
    let home = Home::with(vmint_tests::seed::Seed::Empty);
    for block in all("json") {
        for line in block.text.lines() {
            let read: Result<serde_json::Value, _> = serde_json::from_str(line);
            read.unwrap_or_else(|e| panic!("{}:{}: {e}", block.page, block.line));
        }
    }
    let compile = "import ast, sys; compile(sys.stdin.read(), 'example', 'exec', flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)";
    let mut seen = 0;
    for block in all("python") {
        let outcome = home
            .program("python3", ["-c", compile])
            .input(block.text.clone())
            .run();
        assert!(
            outcome.code == Some(0),
            "{}:{}: {outcome}",
            block.page,
            block.line
        );
        seen += 1;
    }
    assert!(seen >= 4, "only {seen} blocks");
}
