//! Workflow commands: `::group::`, `::error file=…::`, `::add-mask::` and the others.
