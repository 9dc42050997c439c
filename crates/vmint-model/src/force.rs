//! Whether what stands in the way is overcome.

/// Whether what stands in the way is overcome: a machine that runs, a lease that is out, an owner who is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Force {
    /// It is a refusal.
    #[default]
    No,
    /// It is overcome.
    Yes,
}

impl Force {
    /// As a flag says.
    pub fn when(flag: bool) -> Self {
        if flag { Self::Yes } else { Self::No }
    }
}
