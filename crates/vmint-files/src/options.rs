//! What a caller may choose.

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

/// What becomes of devices and named pipes, which are not made on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Specials {
    /// They are left out, and [counted](crate::Skipped).
    #[default]
    Skip,
    /// They are an error.
    Refuse,
}
