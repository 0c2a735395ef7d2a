//! No bytes make a parser panic: not any bytes, and not bytes that are nearly right.

mod entries;
mod inputs;

use entries::entries;
use inputs::input;
use proptest::test_runner::{Config, TestRunner};

#[test]
fn no_parser_panics() {
    for entry in entries() {
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
        let ran = runner.run(&input(entry), |bytes| {
            (entry.read)(&bytes);
            Ok(())
        });
        ran.unwrap_or_else(|failure| panic!("{}: {failure}", entry.name));
    }
}

/// What the fuzzer found once stays found: a file of `tests/parsers/crashes` is named after its parser, then a dash
/// and whatever tells it apart.
#[test]
fn what_crashed_once_does_not_again() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parsers/crashes");
    let Ok(files) = std::fs::read_dir(folder) else { return };
    for file in files {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let entry = entries().find(|entry| name.starts_with(&format!("{}-", entry.name)));
        (entry.unwrap_or_else(|| panic!("{name}: named after no parser")).read)(
            &std::fs::read(file.path()).unwrap(),
        );
    }
}
