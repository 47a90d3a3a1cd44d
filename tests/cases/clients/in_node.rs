//! node-postgres and Drizzle: with the versions of examples/clients/node/package-lock.json.

use super::{APP, FOUND, HINT, MESSAGE, OWNER, Scene, examples, prepared, run};
use std::path::{Path, PathBuf};

/// A folder with the programs and the packages that they import, as `npm ci` in examples/clients/node would leave it.
struct Project {
    folder: tempfile::TempDir,
    node: PathBuf,
}

impl Project {
    fn new() -> Project {
        let folder = tempfile::tempdir().unwrap();
        copy(&examples().join("node"), folder.path());
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("clients"), folder.path());
        let packages = prepared().join("node/node_modules");
        std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).unwrap();
        Project { folder, node: prepared().join("node/node") }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten().filter(|entry| entry.file_name() != "node_modules") {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

#[test]
#[ignore = "needs what `make clients` prepares"]
fn pg() {
    let (mut scene, project) = (Scene::with_messages(), Project::new());
    let program = project.file("pg_listen.mjs");
    let mut listen = scene.program(&project.node, APP);
    assert_eq!(scene.run_told(listen.arg(&program)), FOUND);
    scene.cleared();
    let mut listen = scene.program_by_url(&project.node, APP, "postgresql");
    assert_eq!(scene.run_told(listen.arg(&program)), FOUND);
    scene.cleared();
    let wanted: String = ["pg", "Drizzle"].iter().map(|client| format!("{client}|42703|{MESSAGE}|{HINT}\n")).collect();
    assert_eq!(run(scene.program(&project.node, APP).arg(project.file("errors.mjs"))), wanted);
}

#[test]
#[ignore = "needs what `make clients` prepares"]
fn drizzle() {
    let (mut scene, project) = (Scene::new(), Project::new());
    // A second time there is nothing to do.
    for _ in 0..2 {
        assert_eq!(run(scene.program(&project.node, OWNER).arg(project.file("drizzle_migrate.mjs"))), "");
    }
    let program = project.file("drizzle_raw.mjs");
    assert_eq!(run(scene.program(&project.node, OWNER).arg(&program)), FOUND);
    scene.cleared();
    assert_eq!(run(scene.program_by_url(&project.node, OWNER, "postgresql").arg(&program)), FOUND);
    scene.cleared();
}
