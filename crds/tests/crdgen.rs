//! The program that writes the files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)] // It is a test.

use std::path::Path;
use std::process::{Command, Output};

fn crdgen(root: &Path, check: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crdgen"));
    command.arg("--root").arg(root);
    if check {
        command.arg("--check");
    }
    command.output().unwrap()
}

#[test]
fn the_files_in_the_repository_are_what_the_types_say() {
    let output = crdgen(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), true);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_file_that_differs_is_named_together_with_the_command_that_writes_it() {
    let root = tempfile::tempdir().unwrap();
    assert!(crdgen(root.path(), false).status.success());
    assert!(crdgen(root.path(), true).status.success());
    let path = root.path().join("charts/murmur-crds/templates/meshes.yaml");
    std::fs::write(&path, "changed by hand").unwrap();
    let output = crdgen(root.path(), true);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("charts/murmur-crds/templates/meshes.yaml"), "{text}");
    assert!(text.contains("cargo run -p murmur-crds --bin crdgen"), "{text}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "changed by hand");
}
