//! The attribute `#[vmint::test]`. What it means is told by `vmint::testing`, which does all the work: this crate only
//! makes a test function that calls it.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![warn(unreachable_pub)]

mod asked;
mod expand;

use proc_macro::TokenStream;

/// A test that is given a fresh machine. See `vmint::testing`.
///
/// ```ignore
/// #[vmint::test(image = "tiny", memory = "256M", cpus = 1, net = "nat", timeout = "60s")]
/// fn the_kernel_tells_its_name(vm: vmint::Vm) -> Result<(), vmint::Fault> {
///     assert_eq!(vm.sh("uname -s")?, "Linux\n");
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn test(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = expand::expand(attribute.into(), item.into());
    expanded
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
