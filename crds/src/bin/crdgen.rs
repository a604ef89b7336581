//! Writes the CustomResourceDefinitions to `crds/` and to the chart, or checks
//! with `--check` that they are as they should be.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Writes the YAML of Murmur's resource types.
#[derive(Parser)]
struct Arguments {
    /// Write nothing; fail if a file differs from what would be written.
    #[arg(long)]
    check: bool,
    /// The root of the repository.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
    root: PathBuf,
}

#[allow(clippy::print_stdout)] // It is a command-line program.
fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for file in murmur_crds::files::all().map_err(|error| error.to_string())? {
        let path = arguments.root.join(&file.path);
        let shown = file.path.display();
        if fs::read_to_string(&path).is_ok_and(|text| text == file.text) {
            continue;
        }
        if arguments.check {
            return Err(format!(
                "{shown} is not what crds/src says; run `cargo run -p murmur-crds --bin crdgen` and commit it"
            ));
        }
        let folder = path.parent().unwrap_or(&arguments.root);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, &file.text))
            .map_err(|error| format!("cannot write {shown}: {error}"))?;
        lines.push(format!("wrote {shown}"));
    }
    Ok(lines)
}
