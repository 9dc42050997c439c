//! Whose files are obeyed, and what they may name.

use super::*;

#[test]
fn a_file_of_another_user_is_refused_unless_its_folder_is_trusted() {
    use std::os::unix::fs::chown;
    let world = World::with("");
    if chown(world.file(), Some(12345), None).is_err() {
        // Only root can give files away.
        assert!(!rustix::process::geteuid().is_root());
        return;
    }
    assert_eq!(
        world.error(),
        "vmint.toml belongs to user 12345, neither to you nor to root"
    );
    let fault = Fault::from(world.load_in(world.dir.path()).unwrap_err());
    let hint = fault.hint.unwrap();
    let folder = world.dir.path().to_str().unwrap().to_owned();
    assert!(hint.contains(&format!("--trust {folder}")), "{hint}");
    // Root under sudo works in the folders of the caller.
    let world = world.env("SUDO_UID", "12345");
    assert_eq!(world.load().trust, Trust::Folder);
    let world = world.env("SUDO_UID", "54321");
    assert!(world.error().contains("12345"));
    let world = world.env("VMINT_TRUST", &format!("/nowhere:{folder}"));
    assert_eq!(world.load().trust, Trust::Host);
    let world = world.env("VMINT_TRUST", "here");
    assert!(world.error().contains("absolute"), "{}", world.error());
}

#[test]
fn a_link_of_another_user_to_a_file_of_ones_own_is_refused() {
    use rustix::fs::{AtFlags, CWD, chownat};
    let (own, trap) = (World::with(""), World::empty());
    std::os::unix::fs::symlink(own.file(), trap.file()).unwrap();
    assert_eq!(trap.load().file, Some(trap.file()));
    let owner = Some(rustix::process::Uid::from_raw(12345));
    if chownat(CWD, trap.file(), owner, None, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        assert!(trap.error().contains("user 12345"), "{}", trap.error());
    }
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::with("");
    fs::set_permissions(world.file(), fs::Permissions::from_mode(0o646)).unwrap();
    assert_eq!(
        world.error(),
        "vmint.toml can be written by other users: its mode is 646"
    );
}

#[test]
fn the_users_own_settings_name_trusted_folders_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let settings = home.path().join(".config/vmint/config.toml");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::create_dir_all(home.path().join("work/a")).unwrap();
    fs::write(&settings, "trust = [\"~/work\", \"/nowhere\"]\n").unwrap();
    fs::write(home.path().join("work/a/vmint.toml"), "").unwrap();
    let world = World::with("").env("HOME", home.path().to_str().unwrap());
    assert_eq!(world.load().trust, Trust::Folder);
    let below = world.load_in(&home.path().join("work/a")).unwrap();
    assert_eq!(below.trust, Trust::Host);
    for (text, wrong) in [
        ("[defaults]\nimage = \"x\"\n", "unknown key `defaults`"),
        ("trust = [\"work\"]\n", "absolute path"),
    ] {
        fs::write(&settings, text).unwrap();
        let error = world.load_in(world.dir.path()).unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn what_lies_outside_of_the_folder_of_the_file_is_refused_unless_it_is_trusted() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("key"), "secret").unwrap();
    let outside = outside.path().to_str().unwrap();
    let world = World::with(format!(
        "[images.abs]\nfrom = \"debian:12\"\ncopy = [\"in:/srv/\", \"{outside}/key:/srv/\"]\n\
         [images.up]\nfrom = \"debian:12\"\ncopy = [\"in/../../x:/srv/\"]\n\
         [images.link]\nfrom = \"debian:12\"\ncopy = [\"lane/key:/srv/\"]\n\
         [images.dangling]\nfrom = \"debian:12\"\ncopy = [\"later:/srv/\"]\n\
         [images.tar]\nimport = \"{outside}/key\"\n\
         [images.kernel]\nfrom = \"debian:12\"\nkernel = \"{outside}/key\"\n\
         [images.modules]\nfrom = \"debian:12\"\nkernel = \"in\"\nmodules = \"{outside}\"\n\
         [images.inside]\nfrom = \"debian:12\"\ncopy = [\"in:/srv/\", \"turn/in:/srv/\", \"none/yet:/srv/\"]\n\
         [images.registry]\nimport = \"docker://nginx\"\n"
    ));
    let folder = world.dir.path();
    fs::write(folder.join("in"), "").unwrap();
    std::os::unix::fs::symlink(outside, folder.join("lane")).unwrap();
    std::os::unix::fs::symlink(format!("{outside}/later"), folder.join("later")).unwrap();
    std::os::unix::fs::symlink(".", folder.join("turn")).unwrap();
    let refused = |config: &Config| -> Vec<String> {
        let images = config.images.iter();
        images
            .filter(|(name, definition)| config.refuse_outside(name.as_str(), definition).is_err())
            .map(|(name, _)| name.to_string())
            .collect()
    };
    let config = world.load();
    assert_eq!(
        refused(&config),
        ["abs", "dangling", "kernel", "link", "modules", "tar", "up"]
    );
    let fault = config
        .refuse_path("`actions` of [workflow]", Path::new("/etc"))
        .unwrap_err();
    assert_eq!(fault.kind, ErrorKind::Usage);
    assert!(
        fault.message.starts_with(
            "`actions` of [workflow] is `/etc`, which lies outside of the folder of /"
        ),
        "{fault}"
    );
    let trusted = folder.to_str().unwrap().to_owned();
    let config = world.env("VMINT_TRUST", &trusted).load();
    assert_eq!(refused(&config), [] as [&str; 0]);
}

proptest::proptest! {
    #[test]
    fn nothing_makes_the_reader_panic(
        text in "(\\[|\\]|=|\"|'|\\.|\n| |[a-z]|[0-9]|defaults|images|pools|memory|ä|\r){0,40}"
    ) {
        let world = World::with(&text);
        match world.load_in(world.dir.path()) {
            Ok(config) => proptest::prop_assert_eq!(config.file, Some(world.file())),
            Err(e) => proptest::prop_assert!(e.to_string().contains("vmint.toml:"), "{e}"),
        }
    }
}
