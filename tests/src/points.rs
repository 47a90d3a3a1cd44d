//! Places at which a test build of the extension waits, fails or dies: see `src/points.rs`.

use crate::cluster::Cluster;
use crate::find::Account;
use crate::wait::eventually;
use std::path::PathBuf;
use std::time::Duration;

/// What happens at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process waits there.
    Hold,
    /// An error that is no row's fault.
    Error,
    /// An error that may be a row's.
    Fault,
    /// A panic.
    Panic,
    /// The process dies, and the server restarts.
    Kill,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Action::Hold => "hold",
            Action::Error => "error",
            Action::Fault => "fault",
            Action::Panic => "panic",
            Action::Kill => "kill",
        }
    }
}

/// The places of one cluster; from [`Cluster::points`].
pub struct Points {
    folder: PathBuf,
    account: Account,
}

impl Points {
    /// In the data directory `data`, whose server runs as `account`.
    pub(crate) fn new(data: PathBuf, account: Account) -> Points {
        let points = Points { folder: data.join("points"), account };
        if !points.folder.exists() {
            std::fs::create_dir(&points.folder).unwrap();
            points.own(&points.folder);
        }
        points
    }

    fn own(&self, path: &std::path::Path) {
        if self.account.switched {
            std::os::unix::fs::chown(path, Some(self.account.uid), Some(self.account.gid)).unwrap();
        }
    }

    fn write(&self, name: &str, contents: &str) {
        // Renamed into place, so that nobody reads half of it.
        let new = self.folder.join(".new");
        std::fs::write(&new, contents).unwrap();
        self.own(&new);
        std::fs::rename(&new, self.folder.join(name)).unwrap();
    }

    /// The next time that somebody comes by `place`.
    pub fn at(&self, place: &str, action: Action) {
        self.write(place, action.word());
    }

    /// At the `n`-th place that `who` (`worker` or `session`) comes by from now on.
    pub fn at_nth(&self, who: &str, n: u32, action: Action) {
        self.write(who, &format!("{n} {}", action.word()));
    }

    /// The next worker looks into the queue for a reason only, and not whenever it looks round.
    pub fn only_when_told(&self) {
        self.write("only_when_told", "yes");
    }

    /// Whether what was ordered for `name` has not happened yet.
    pub fn is_due(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    /// Whether what was ordered for `name` (a place, `worker` or `session`) has not happened yet; takes the order back.
    pub fn take_back(&self, name: &str) -> bool {
        std::fs::remove_file(self.folder.join(name)).is_ok()
    }

    /// Holds the next one who comes by `place`; it waits there from [`Held::wait`] on, until the guard is dropped.
    pub fn hold(&self, place: &str) -> Held<'_> {
        self.at(place, Action::Hold);
        Held { points: self, place: place.to_owned() }
    }
}

/// An order to hold.
pub struct Held<'a> {
    points: &'a Points,
    place: String,
}

impl Held<'_> {
    /// Waits until somebody is held.
    pub fn wait(&self, timeout: Duration) {
        let held = self.points.folder.join(format!("{}.held", self.place));
        eventually(&format!("somebody is held at {}", self.place), timeout, || {
            if held.exists() { Ok(()) } else { Err("nobody".to_owned()) }
        });
    }

    /// Lets go who is held.
    pub fn release(self) {}
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.points.folder.join(&self.place));
        let _ = std::fs::remove_file(self.points.folder.join(format!("{}.held", self.place)));
    }
}

impl Cluster {
    /// Where to order what happens in a test build.
    #[must_use]
    pub fn points(&self) -> Points {
        Points::new(self.data(), self.account)
    }
}
