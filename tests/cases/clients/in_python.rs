//! psycopg, SQLAlchemy with Alembic, Django: with the versions of examples/clients/python/requirements.txt.

use super::{APP, FOUND, HINT, MESSAGE, OWNER, Scene, examples, prepared, run};
use std::process::Command;

impl Scene {
    /// python in the folder of the examples, which is left as it is.
    fn python(&self, role: &str, arguments: &[&str]) -> Command {
        python(self.program(prepared().join("python/bin/python"), role), arguments)
    }

    fn python_by_url(&self, role: &str, scheme: &str, arguments: &[&str]) -> Command {
        python(self.program_by_url(prepared().join("python/bin/python"), role, scheme), arguments)
    }
}

fn python(mut command: Command, arguments: &[&str]) -> Command {
    // A warning of Python or of a package, on the standard error, fails the run.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("DJANGO_SETTINGS_MODULE", "shop.settings");
    command.current_dir(examples().join("python")).args(arguments);
    command
}

#[test]
#[ignore = "needs what `make clients` prepares"]
fn psycopg() {
    let mut scene = Scene::with_messages();
    let mut listen = scene.python(APP, &["psycopg_listen.py"]);
    assert_eq!(scene.run_told(&mut listen), FOUND);
    let printed = run(&mut scene.python(APP, &["vectors.py"]));
    assert_eq!(printed, "256 numbers\n0.40 my parcel never arrived\n0.24 where is my package?\n");
    scene.cleared();
    let mut listen = scene.python_by_url(APP, "postgresql", &["psycopg_listen.py"]);
    assert_eq!(scene.run_told(&mut listen), FOUND);
    assert_eq!(run(&mut scene.python_by_url(APP, "postgresql", &["vectors.py"])), printed);
    scene.cleared();
}

#[test]
#[ignore = "needs what `make clients` prepares"]
fn sqlalchemy_and_alembic() {
    let mut scene = Scene::new();
    let alembic = |scene: &Scene, verb: &[&str]| run(&mut scene.python(OWNER, &[&["-m", "alembic"], verb].concat()));
    assert_eq!(alembic(&scene, &["upgrade", "head"]), "");
    assert_eq!(run(&mut scene.python(OWNER, &["sqlalchemy_orm.py"])), FOUND);
    scene.cleared();
    let mut by_url = scene.python_by_url(OWNER, "postgresql+psycopg", &["sqlalchemy_orm.py"]);
    assert_eq!(run(&mut by_url), FOUND);

    // What enable() has made is no difference; without the hook it is to be dropped; nor is it one where the model has it.
    const NONE: &str = "No new upgrade operations detected.\n";
    assert_eq!(alembic(&scene, &["check"]), NONE);
    let look = "from alembic.autogenerate import compare_metadata; from alembic.migration import MigrationContext; from models import Base
import pgvector.sqlalchemy, sqlalchemy
with sqlalchemy.create_engine('postgresql+psycopg://').connect() as c:
    print(sorted(d[0] for d in compare_metadata(MigrationContext.configure(c), Base.metadata)))";
    assert_eq!(run(&mut scene.python(OWNER, &["-c", look])), "['remove_column', 'remove_index']\n");
    let mut declared = scene.python(OWNER, &["../../../tests/clients/declared.py"]);
    declared.env("PYTHONPATH", examples().join("python"));
    assert_eq!(run(&mut declared), "differences: []\nmy parcel never arrived\n");

    // Nor while the model is changed, when a column more is there. (The change goes no further: its server is gone.)
    scene.site.stub_gone();
    scene.owner().run("SELECT autoembed.set_model('messages', 'stub')");
    let next = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname = 'embedding_next'";
    assert_eq!(scene.site.db.int(next), 1);
    assert_eq!(alembic(&scene, &["check"]), NONE);

    assert_eq!(alembic(&scene, &["downgrade", "base"]), "");
    assert_eq!(nothing_left(&mut scene), "");
}

/// Tables and functions of messages in the schema public.
fn nothing_left(scene: &mut Scene) -> String {
    scene.site.db.text(
        "SELECT coalesce(string_agg(name, ' '), '') FROM (SELECT relname AS name, relnamespace AS schema FROM pg_class UNION ALL SELECT proname, pronamespace FROM pg_proc) o
         WHERE schema = 'public'::regnamespace AND name LIKE '%messages%'",
    )
}

#[test]
#[ignore = "needs what `make clients` prepares"]
fn django() {
    let mut scene = Scene::new();
    let manage = |scene: &Scene, verb: &[&str]| run(&mut scene.python(OWNER, &[&["-m", "django"], verb].concat()));
    assert!(manage(&scene, &["migrate", "--no-color"]).ends_with("Applying shop.0001_messages... OK\n"));
    assert_eq!(manage(&scene, &["makemigrations", "--check", "--dry-run"]), "No changes detected\n");
    assert_eq!(run(&mut scene.python(OWNER, &["django_raw.py"])), FOUND);
    scene.cleared();
    manage(&scene, &["migrate", "shop", "zero"]);
    assert_eq!(nothing_left(&mut scene), "");
}

#[test]
#[ignore = "needs what `make clients` prepares"]
fn errors() {
    let scene = Scene::with_messages();
    let mut errors = scene.python(APP, &["../../../tests/clients/errors.py"]);
    let printed = run(errors.env("PYTHONPATH", examples().join("python")));
    let wanted: String =
        ["psycopg", "SQLAlchemy", "Django"].iter().map(|client| format!("{client}|42703|{MESSAGE}|{HINT}\n")).collect();
    assert_eq!(printed, wanted);
}
