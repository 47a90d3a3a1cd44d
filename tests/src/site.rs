//! The usual scene: a cluster, the database `app` with the extension, an embedding server, and a model that uses it.

use crate::cluster::{Builder, Cluster};
use crate::db::{Db, literal};
use crate::vectors;
use crate::wait::{eventually, seconds};
use autoembed_stub::{Fault, Script, Stub, StubConfig, Vectors};
use std::time::Duration;

/// The database of every scene.
pub const DATABASE: &str = "app";

/// How long a test waits for work that is under way. Far above what it takes, since only failures wait so long.
pub const PATIENCE: Duration = seconds(30);

/// How many rows to try something with: as many as usual, or as the environment's `AUTOEMBED_TEST_ROWS` says.
#[must_use]
pub fn rows(usual: usize) -> usize {
    std::env::var("AUTOEMBED_TEST_ROWS").map_or(usual, |text| text.parse().expect("AUTOEMBED_TEST_ROWS is a number"))
}

/// A description of a scene; from [`Site::builder`].
pub struct SiteBuilder {
    cluster: Builder,
    dims: usize,
    model_arguments: String,
    version: Option<String>,
}

/// A scene. Its model is named `stub` and answers with `hashed_vector(text, dims)`.
pub struct Site {
    /// The superuser's session in [`DATABASE`].
    pub db: Db,
    /// The server.
    pub cluster: Cluster,
    /// What answers the requests.
    pub stub: Stub,
    /// Dimensions of the model `stub`.
    pub dims: usize,
}

impl SiteBuilder {
    /// Whether the extension is preloaded (it is unless said otherwise).
    #[must_use]
    pub fn preload(mut self, preload: bool) -> SiteBuilder {
        self.cluster = self.cluster.preload(preload);
        self
    }

    /// Whether the server has a test build of the extension: see [`Builder::test_build`].
    #[must_use]
    pub fn test_build(mut self) -> SiteBuilder {
        self.cluster = self.cluster.test_build(true);
        self
    }

    /// One server setting.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> SiteBuilder {
        self.cluster = self.cluster.setting(name, value);
        self
    }

    /// One variable of the server's environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> SiteBuilder {
        self.cluster = self.cluster.variable(name, value);
        self
    }

    /// The model's dimensions.
    #[must_use]
    pub fn dims(mut self, dims: usize) -> SiteBuilder {
        self.dims = dims;
        self
    }

    /// More arguments for `create_model`, as `timeout => '1 s'`.
    #[must_use]
    pub fn model(mut self, arguments: &str) -> SiteBuilder {
        self.model_arguments = arguments.to_owned();
        self
    }

    /// The version of the extension's SQL; the library is the one that there is.
    #[must_use]
    pub fn version(mut self, version: &str) -> SiteBuilder {
        self.version = Some(version.to_owned());
        self
    }

    /// Everything up and running. Panics with the reason where something is not.
    #[must_use]
    pub fn start(self) -> Site {
        let stub = Stub::start(config(self.dims)).unwrap_or_else(|e| panic!("the embedding server: {e}"));
        let cluster = self.cluster.start();
        cluster.client("postgres").run(&format!("CREATE DATABASE {DATABASE}"));
        let mut db = cluster.client(DATABASE);
        let version = self.version.map_or_else(String::new, |version| format!("VERSION '{version}' "));
        db.run(&format!("CREATE EXTENSION autoembed {version}CASCADE"));
        let mut site = Site { db, cluster, stub, dims: self.dims };
        site.create_model("stub", &self.model_arguments);
        site
    }
}

fn config(dims: usize) -> StubConfig {
    StubConfig::vectors(Vectors::Hashed(dims)).recorded()
}

impl Site {
    /// Starts describing a scene: preloaded, 16 dimensions, retries in fractions of a second.
    #[must_use]
    pub fn builder() -> SiteBuilder {
        SiteBuilder {
            cluster: Cluster::builder()
                .preload(true)
                .setting("autoembed.retry_base_delay", "100ms")
                .setting("autoembed.retry_max_delay", "1s"),
            dims: 16,
            model_arguments: String::new(),
            version: None,
        }
    }

    /// As [`Site::builder`], on a server on which no background worker can be started at all.
    #[must_use]
    pub fn workerless() -> SiteBuilder {
        Site::builder()
            .preload(false)
            .setting("max_worker_processes", "0")
            .setting("max_logical_replication_workers", "0")
    }

    /// The scene most tests want.
    #[must_use]
    pub fn new() -> Site {
        Site::builder().start()
    }

    /// The scene most tests want, with the table `messages (id, content, note)` already enabled.
    #[must_use]
    pub fn with_messages() -> Site {
        let mut site = Site::new();
        site.messages("");
        site
    }

    /// Creates a model that calls this scene's embedding server, in the present session's database.
    pub fn create_model(&mut self, name: &str, more: &str) {
        let comma = if more.is_empty() { "" } else { ", " };
        self.db.run(&format!(
            "SELECT autoembed.create_model({}, 'openai', dimensions => {}, model => 'stub-model', url => {}{comma}{more})",
            literal(name),
            self.dims,
            literal(&self.stub.url())
        ));
    }

    /// Creates and enables `messages (id, content, note)`; `more` are further arguments of `enable`.
    pub fn messages(&mut self, more: &str) {
        self.db
            .run("CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text, note text)");
        self.enable("messages", "content", more);
    }

    /// `autoembed.enable` with the model `stub`; `table` as written in SQL. Gives the vectorizer's id.
    pub fn enable(&mut self, table: &str, input: &str, more: &str) -> i64 {
        let comma = if more.is_empty() { "" } else { ", " };
        self.db.int(&format!(
            "SELECT autoembed.enable({}, {}, model => 'stub'{comma}{more})",
            literal(table),
            literal(input)
        ))
    }

    /// Inserts the texts `text <from>` to `text <to>` into `messages` in one statement.
    pub fn insert(&mut self, from: usize, to: usize) {
        self.db
            .run(&format!("INSERT INTO messages (content) SELECT 'text ' || i FROM generate_series({from}, {to}) i"));
    }

    /// Another session of the superuser.
    #[must_use]
    pub fn session(&self) -> Db {
        self.cluster.client(DATABASE)
    }

    /// A session of another role.
    #[must_use]
    pub fn session_as(&self, role: &str) -> Db {
        self.cluster.client_as(DATABASE, role)
    }

    /// Opens the scene's own session again, after the server ended it.
    pub fn reconnect(&mut self) {
        self.cluster.wait_ready(PATIENCE);
        self.db = self.cluster.client(DATABASE);
    }

    /// Waits until each row of `table` has, in `embedding`, the vector of `text` (an SQL expression) over the row.
    /// Gives the number of rows.
    pub fn settle(&mut self, table: &str, text: &str) -> usize {
        self.settle_within(table, text, "embedding", PATIENCE)
    }

    /// [`Site::settle`] for another column or another patience.
    pub fn settle_within(&mut self, table: &str, text: &str, vector: &str, patience: Duration) -> usize {
        vectors::until_all_vectors(&mut self.db, table, text, vector, self.dims, patience)
    }

    /// Asserts without waiting what [`Site::settle`] waits for.
    pub fn assert_all_vectors(&mut self, table: &str, text: &str) -> usize {
        vectors::assert_all_vectors(&mut self.db, table, text, "embedding", self.dims)
    }

    /// Inserts a row into `messages` and waits for its vector: what was queued before it has then been looked at, which
    /// is how a test proves that something was *not* done.
    pub fn marker(&mut self) {
        let id = self.db.int("INSERT INTO messages (content) VALUES ('marker ' || gen_random_uuid()) RETURNING id");
        self.db.until(&format!("SELECT embedding IS NOT NULL FROM messages WHERE id = {id}"), "t", PATIENCE);
    }

    /// Every text the embedding server was sent since its last `reset_stats`, without markers, in order.
    #[must_use]
    pub fn inputs(&self) -> Vec<String> {
        let inputs = self.stub.requests().into_iter().flat_map(|request| request.inputs);
        inputs.filter(|input| !input.starts_with("marker ")).collect()
    }

    /// Plays a fault for every request until `stub.clear()`.
    pub fn fault(&self, fault: Fault) {
        self.stub.script(Script::always(fault));
    }

    /// Waits until `n` requests are held by the embedding server.
    pub fn wait_held(&self, n: u64) {
        assert!(self.stub.wait_held(n, PATIENCE), "no request came; log:\n{}", self.cluster.log_tail(20));
    }

    /// One column of the table's row in the view `status`, "NULL" for none.
    pub fn status(&mut self, column: &str, table: &str) -> String {
        self.db.maybe(&status_of(column, table)).unwrap_or_else(|| "NULL".to_owned())
    }

    /// Waits until the view `status` shows a state that begins with `beginning`; gives the whole state.
    pub fn until_state(&mut self, table: &str, beginning: &str) -> String {
        eventually(&format!("{table} is {beginning}"), PATIENCE, || {
            let seen = self.status("state", table);
            if seen.starts_with(beginning) { Ok(seen) } else { Err(seen) }
        })
    }

    /// Waits until the view `status` shows no more work of `table` ahead.
    pub fn until_idle(&mut self, table: &str) {
        self.db.until(&status_of("pending + in_flight", table), "0", PATIENCE);
    }

    /// Failed jobs of `table`.
    pub fn failed(&mut self, table: &str) -> i64 {
        self.db.int(&format!("SELECT count(*) FROM autoembed.failed_jobs WHERE source = {}::regclass", literal(table)))
    }

    /// What the server tells `role` beside the answer.
    #[must_use]
    pub fn told(&self, role: &str, sql: &str) -> String {
        let mut psql = self.cluster.tool("psql");
        psql.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-U", role, "-c", sql]);
        let output = psql.output().expect("psql runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    /// Stops the embedding server: connections are refused until [`Site::stub_back`].
    pub fn stub_gone(&mut self) {
        self.stub.stop();
    }

    /// Starts the embedding server again where it was.
    pub fn stub_back(&mut self) {
        self.stub = self.stub.again(config(self.dims)).unwrap_or_else(|e| panic!("the embedding server: {e}"));
    }
}

/// A database with the extension and nothing else: no model made, no network.
#[must_use]
pub fn bare() -> (Db, Cluster) {
    let cluster = Cluster::builder().preload(true).start();
    cluster.client("postgres").run(&format!("CREATE DATABASE {DATABASE}"));
    let mut db = cluster.client(DATABASE);
    db.run("CREATE EXTENSION autoembed CASCADE");
    (db, cluster)
}

impl Default for Site {
    fn default() -> Site {
        Site::new()
    }
}

fn status_of(column: &str, table: &str) -> String {
    format!("SELECT ({column})::text FROM autoembed.status WHERE source = {}::regclass", literal(table))
}
