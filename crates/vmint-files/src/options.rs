//! What a caller may choose.

use vmint_tree::Xattrs;

/// How an archive is unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The name, one component, that the archive's only top-level entry gets. An archive with two of them is then
    /// refused: one would take the other's place.
    pub rename: Option<Vec<u8>>,
    /// Which symbolic links are made.
    pub symlinks: Symlinks,
    /// What becomes of what is neither file, folder nor link.
    pub specials: Specials,
    /// To whom files belong.
    pub owners: Owners,
    /// Whether extended attributes are set.
    pub xattrs: Xattrs,
    /// What the target folder is.
    pub root: Root,
}

/// Which symbolic links are made. They are text, and never followed here; but whoever uses the folder may follow them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// All, with the text that they have.
    #[default]
    All,
    /// Those that lead to their own folder or below; another is an error.
    Descending,
}

/// What becomes of devices, which are not made on a host, and of named pipes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Specials {
    /// Named pipes are made; devices are left out, and [counted](crate::Skipped).
    #[default]
    PipesAlone,
    /// Both are an error.
    Refuse,
}

/// To whom files belong. Set-id bits are dropped in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// To whom this process runs for.
    #[default]
    Mine,
    /// To whom the archive says, for which this process must be root. An owner who cannot be had is
    /// [counted](crate::Skipped).
    Kept,
}

/// What the target folder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// It was there, and stays as it is.
    #[default]
    Old,
    /// It was made for this archive: should the archive have an entry for it, it gets what that says.
    New,
}
