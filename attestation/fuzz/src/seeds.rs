//! Writes the seeds of every parser into the folder that is its argument, one folder a parser, and prints the names.

#[path = "../../tests/parsers/entries.rs"]
mod entries;

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let corpus = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "corpus".to_owned()));
    for entry in entries::ENTRIES {
        let _ = entry.read;
        let folder = corpus.join(entry.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in (entry.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
        println!("{}", entry.name);
    }
    Ok(())
}
