//! Tests that documents name: whether a file has a test of that name which is run. Must not know any document.

/// Whether the file has a test of this name that is run without being asked for.
pub(crate) fn is_run(source: &str, test: &str) -> bool {
    let Some(at) = source.find(&format!("fn {test}(")) else { return false };
    let line = source[..at].rfind('\n').map_or(0, |end| end + 1);
    let attributes: Vec<&str> = source[..line]
        .lines()
        .rev()
        .take_while(|line| line.trim_start().starts_with(['#', '/']))
        .collect();
    let has = |text: &str| attributes.iter().any(|line| line.contains(text));
    (has("test]") || has("test(")) && !has("ignore")
}
