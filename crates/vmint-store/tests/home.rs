//! Opening a home, in every environment that a user may have.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use vmint_model::{ErrorKind, Explained, MachineId};
use vmint_store::home::{SOCKET_PATH_LIMIT, open_home_in};
use vmint_store::{Environment, HomeError};

/// A folder for a home and a folder for its sockets.
struct Place {
    dir: tempfile::TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state/vmint");
        fs::create_dir(dir.path().join("run")).unwrap();
        set_mode(&dir.path().join("run"), 0o700);
        Self { dir, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn xdg(&self) -> Environment {
        Environment {
            xdg_runtime_dir: Some(self.path("run")),
            ..Environment::default()
        }
    }

    fn overridden(&self, base: &Path) -> Environment {
        Environment {
            vmint_runtime_dir: Some(base.to_owned()),
            ..self.xdg()
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_new_home_has_its_folders_for_its_owner_alone() {
    let place = Place::new();
    let home = open_home_in(&place.root, &place.xdg()).unwrap();
    for folder in [
        home.root().to_owned(),
        home.images(),
        home.templates(),
        home.machines(),
        home.snapshots(),
        home.runtime().to_owned(),
    ] {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
    assert!(home.runtime().starts_with(place.path("run/vmint")));
    assert_eq!(open_home_in(&place.root, &place.xdg()).unwrap(), home);
}

#[test]
fn every_path_to_a_home_means_the_same_home() {
    let place = Place::new();
    let home = open_home_in(&place.root, &place.xdg()).unwrap();
    let link = place.path("link");
    symlink(&place.root, &link).unwrap();
    let roundabout = place.root.join("../vmint/./images/..");
    for path in [link, roundabout] {
        assert_eq!(open_home_in(&path, &place.xdg()).unwrap(), home);
    }
}

#[test]
fn two_homes_have_sockets_in_two_folders() {
    let place = Place::new();
    let one = open_home_in(&place.root, &place.xdg()).unwrap();
    let two = open_home_in(&place.path("two"), &place.xdg()).unwrap();
    assert_ne!(one.runtime(), two.runtime());
}

#[test]
fn a_command_in_another_environment_finds_the_sockets() {
    let place = Place::new();
    let home = open_home_in(&place.root, &place.xdg()).unwrap();
    let bare = open_home_in(&place.root, &Environment::default()).unwrap();
    assert_eq!(bare.runtime(), home.runtime());

    // After a reboot the runtime directory is empty, and the folder is made again.
    fs::remove_dir_all(place.path("run/vmint")).unwrap();
    fs::create_dir(place.path("run/vmint")).unwrap();
    set_mode(&place.path("run/vmint"), 0o700);
    let again = open_home_in(&place.root, &Environment::default()).unwrap();
    assert_eq!(again.runtime(), home.runtime());
    assert!(home.runtime().is_dir());
}

#[test]
fn the_override_wins_and_is_remembered() {
    let place = Place::new();
    open_home_in(&place.root, &place.xdg()).unwrap();
    let base = place.path("r");
    let home = open_home_in(&place.root, &place.overridden(&base)).unwrap();
    assert_eq!(home.runtime().parent(), Some(base.as_path()));
    assert_eq!(open_home_in(&place.root, &place.xdg()).unwrap(), home);
}

#[test]
fn a_copied_home_does_not_share_the_sockets_of_the_first() {
    let place = Place::new();
    let home = open_home_in(&place.root, &place.xdg()).unwrap();
    let copy = place.path("copy");
    fs::create_dir(&copy).unwrap();
    set_mode(&copy, 0o700);
    symlink(home.runtime(), copy.join("sockets")).unwrap();
    let copied = open_home_in(&copy, &place.xdg()).unwrap();
    assert_ne!(copied.runtime(), home.runtime());
}

#[test]
fn a_runtime_directory_that_will_not_do_gives_way_to_tmp() {
    let place = Place::new();
    let long = place.path(&"x".repeat(90));
    fs::create_dir(&long).unwrap();
    set_mode(&long, 0o700);
    let open = place.path("open");
    fs::create_dir(&open).unwrap();
    set_mode(&open, 0o777);
    fs::create_dir(place.path("tmp")).unwrap();
    for (number, unfit) in [long, open, place.path("missing")].iter().enumerate() {
        let environment = Environment {
            xdg_runtime_dir: Some(unfit.clone()),
            tmp: Some(place.path("tmp")),
            ..Environment::default()
        };
        let root = place.path(&format!("home{number}"));
        let home = open_home_in(&root, &environment).unwrap();
        let user = rustix::process::geteuid().as_raw();
        let base = place.path("tmp").join(format!("vmint-{user}"));
        assert_eq!(home.runtime().parent(), Some(base.as_path()));
        assert_eq!(mode(&base), 0o700);
        assert_eq!(mode(home.runtime()), 0o700);
    }
}

#[test]
fn sockets_always_fit_their_address() {
    let place = Place::new();
    let room = SOCKET_PATH_LIMIT - "/12345678/m0123456789ab.sock".len();
    let base = |length: usize| {
        let fill = length - place.path("").as_os_str().len();
        place.path(&"r".repeat(fill))
    };
    let home = open_home_in(&place.root, &place.overridden(&base(room))).unwrap();
    let socket = home.machine(&MachineId::random()).socket().to_owned();
    assert_eq!(socket.as_os_str().len(), SOCKET_PATH_LIMIT);
    std::os::unix::net::UnixListener::bind(&socket).expect("it fits");

    let error = open_home_in(&place.root, &place.overridden(&base(room + 1))).unwrap_err();
    assert!(
        matches!(error, HomeError::TooLong { length: 108, .. }),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.hint().unwrap().contains("VMINT_RUNTIME_DIR"));
}

#[test]
fn socket_folders_that_others_could_use_are_refused() {
    let place = Place::new();
    let base = place.path("base");
    let home = open_home_in(&place.root, &place.overridden(&base)).unwrap();
    let folder = home.runtime().to_owned();

    set_mode(&folder, 0o750);
    let error = open_home_in(&place.root, &place.overridden(&base)).unwrap_err();
    assert!(matches!(error, HomeError::OpenToOthers { mode: 0o750, .. }));

    fs::remove_dir(&folder).unwrap();
    symlink(place.path("run"), &folder).unwrap();
    let error = open_home_in(&place.root, &place.overridden(&base)).unwrap_err();
    assert!(matches!(error, HomeError::NotAFolder { .. }), "{error}");

    fs::remove_file(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    let error = open_home_in(&place.root, &place.overridden(&base)).unwrap_err();
    assert!(matches!(error, HomeError::NotAFolder { .. }), "{error}");

    set_mode(&base, 0o770);
    let error = open_home_in(&place.root, &place.overridden(&base)).unwrap_err();
    assert!(matches!(error, HomeError::OpenToOthers { mode: 0o770, .. }));
}

#[test]
fn a_home_that_others_can_write_to_is_refused_and_left_as_it_is() {
    let place = Place::new();
    let root = place.path("shared");
    fs::create_dir(&root).unwrap();
    set_mode(&root, 0o1777);
    let error = open_home_in(&root, &place.xdg()).unwrap_err();
    assert!(matches!(error, HomeError::OpenToOthers { .. }), "{error}");
    assert_eq!(mode(&root), 0o1777);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

#[test]
fn folders_of_another_user_are_refused() {
    if !is_root() {
        // Only root can give a folder away; every other user is refused by /, which is root's.
        let error = open_home_in(Path::new("/"), &Environment::default()).unwrap_err();
        assert!(matches!(error, HomeError::ForeignOwner { owner: 0, .. }));
        return;
    }
    let place = Place::new();
    let base = place.path("base");
    let home = open_home_in(&place.root, &place.overridden(&base)).unwrap();
    for folder in [home.runtime(), &base, home.root()] {
        std::os::unix::fs::chown(folder, Some(12345), None).unwrap();
        let error = open_home_in(&place.root, &place.overridden(&base)).unwrap_err();
        assert!(
            matches!(&error, HomeError::ForeignOwner { path, owner: 12345, .. } if path == folder),
            "{error}"
        );
        std::os::unix::fs::chown(folder, Some(0), None).unwrap();
    }
}

#[test]
fn a_file_in_the_place_of_a_home_is_an_error_that_names_it() {
    let place = Place::new();
    let root = place.path("file");
    fs::write(&root, "").unwrap();
    let error = open_home_in(&root, &place.xdg()).unwrap_err();
    assert!(
        error.to_string().contains("file is not a folder"),
        "{error}"
    );
    let error = open_home_in(&root.join("below"), &place.xdg()).unwrap_err();
    assert!(error.to_string().contains("file/below"), "{error}");
}

#[test]
fn many_open_a_new_home_at_once() {
    let place = Place::new();
    std::thread::scope(|scope| {
        let opened: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| open_home_in(&place.root, &place.xdg()).unwrap()))
            .collect();
        let mut homes: Vec<_> = opened.into_iter().map(|t| t.join().unwrap()).collect();
        homes.dedup();
        assert_eq!(homes.len(), 1);
    });
    let mut names: Vec<_> = fs::read_dir(&place.root)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "home.json",
            "home.lock",
            "images",
            "machines",
            "snapshots",
            "sockets",
            "templates"
        ],
        "and nothing half made is left"
    );
}

#[test]
fn the_home_is_where_the_environment_says() {
    let environment = |vmint: &str, xdg: &str, home: &str| {
        let path = |s: &str| (!s.is_empty()).then(|| PathBuf::from(s));
        Environment {
            vmint_home: path(vmint),
            xdg_state_home: path(xdg),
            home: path(home),
            ..Environment::default()
        }
        .root()
    };
    let found = |vmint, xdg, home| environment(vmint, xdg, home).unwrap();
    assert_eq!(found("/a", "/b", "/c"), Path::new("/a"));
    assert_eq!(found("", "/b", "/c"), Path::new("/b/vmint"));
    assert_eq!(found("", "", "/c"), Path::new("/c/.local/state/vmint"));
    let error = environment("", "", "").unwrap_err();
    assert!(error.hint().unwrap().contains("VMINT_HOME"));
}

/// Where the home at `root` says that it is, and of what it is a copy.
fn identity(place: &Place, root: &Path) -> vmint_store::Identity {
    let home = open_home_in(root, &place.xdg()).unwrap();
    let identity = vmint_store::Identity::of(&home).unwrap().unwrap();
    assert_eq!(home.mark().to_str(), Some(identity.id.as_str()));
    identity
}

#[test]
fn a_copy_is_another_home_and_knows_which_it_is_a_copy_of() {
    let place = Place::new();
    let original = identity(&place, &place.root);
    assert_eq!(original.copy_of, None);
    let copy = place.path("copy");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&place.root, &copy])
        .status();
    assert!(copied.unwrap().success());
    let found = identity(&place, &copy);
    assert_ne!(found.id, original.id);
    let of = found.copy_of.clone().unwrap();
    assert_eq!(
        (of.id, Path::new(&of.path)),
        (
            original.id.clone(),
            &*fs::canonicalize(&place.root).unwrap()
        )
    );
    assert_eq!(identity(&place, &copy), found, "that is settled");
    assert_eq!(identity(&place, &place.root), original);
}

#[test]
fn a_home_that_is_moved_or_reached_by_another_path_is_the_same() {
    let place = Place::new();
    let before = identity(&place, &place.root);
    let moved = place.path("moved");
    fs::rename(&place.root, &moved).unwrap();
    let after = identity(&place, &moved);
    assert_eq!((&after.id, &after.copy_of), (&before.id, &None));
    assert_ne!(after.path, before.path);
    symlink(&moved, &place.root).unwrap();
    assert_eq!(identity(&place, &place.root), after);
}

#[test]
fn only_a_reboot_gives_the_device_of_the_same_home_another_number() {
    let place = Place::new();
    let before = identity(&place, &place.root);
    let file = place.root.join("home.json");
    let text = fs::read_to_string(&file).unwrap();
    let number = text.lines().find(|line| line.contains("device")).unwrap();
    let renumbered = text.replace(number, "  \"device\": 99999,");
    fs::write(&file, &renumbered).unwrap();
    let copy = identity(&place, &place.root);
    assert_eq!(copy.copy_of.map(|of| of.id), Some(before.id.clone()));
    let boot = renumbered
        .lines()
        .find(|line| line.contains("boot"))
        .unwrap();
    let rebooted = renumbered.replace(boot, "  \"boot\": \"another\"");
    fs::write(&file, rebooted).unwrap();
    assert_eq!(identity(&place, &place.root), before);
}

#[test]
fn a_home_of_before_keeps_the_folder_of_its_sockets_and_one_that_may_be_a_copy_gets_its_own() {
    let place = Place::new();
    let home = open_home_in(&place.root, &place.xdg()).unwrap();
    fs::remove_file(place.root.join("home.json")).unwrap();
    let name = home.runtime().with_file_name("0123abcd");
    fs::remove_file(place.root.join("sockets")).unwrap();
    symlink(&name, place.root.join("sockets")).unwrap();
    // The name is of another path, and nothing runs here.
    let found = identity(&place, &place.root);
    assert_ne!(found.id.as_str(), "0123abcd");
    assert_eq!(found.copy_of.unwrap().id.as_str(), "0123abcd");
    // A lock is of the file: a machine that holds one in here is of this home.
    fs::remove_file(place.root.join("home.json")).unwrap();
    fs::remove_file(place.root.join("sockets")).unwrap();
    symlink(&name, place.root.join("sockets")).unwrap();
    let machine = home.machine(&MachineId::random());
    fs::create_dir(machine.path()).unwrap();
    let _lock = vmint_store::FileLock::try_acquire(&machine.lock())
        .unwrap()
        .unwrap();
    assert_eq!(identity(&place, &place.root).id.as_str(), "0123abcd");
}

#[test]
fn a_file_that_says_nothing_is_as_good_as_none() {
    let place = Place::new();
    let file = place.root.join("home.json");
    let first = identity(&place, &place.root);
    for text in [
        "",
        "null",
        "{}",
        "{\"id\":\"../../etc\"}",
        &"x".repeat(100_000),
    ] {
        fs::write(&file, text).unwrap();
        let found = identity(&place, &place.root);
        assert_ne!(found.id, first.id);
        assert!(
            found.copy_of.is_some(),
            "what it was is not known, so nothing of it is acted on"
        );
    }
}
