//! The test function that is made of the user's.

use crate::asked::Asked;
use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, FnArg, ItemFn};

/// What stands in the place of the attribute and its function.
pub fn expand(attribute: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let asked: Asked = syn::parse2(attribute)?;
    let function: ItemFn = syn::parse2(item)?;
    check(&function)?;
    let ItemFn {
        attrs, vis, sig, ..
    } = &function;
    let name = &sig.ident;
    let fields = asked.fields();
    let run = if sig.asyncness.is_some() {
        quote! { run_async }
    } else {
        quote! { run }
    };
    let inner = ItemFn {
        attrs: Vec::new(),
        vis: syn::Visibility::Inherited,
        ..function.clone()
    };
    Ok(quote! {
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis fn #name() {
            #inner
            ::vmint::testing::#run(
                &::vmint::testing::Asked {
                    label: ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)),
                    #fields
                    ..::vmint::testing::Asked::NOTHING
                },
                #name,
            );
        }
    })
}

fn check(function: &ItemFn) -> syn::Result<()> {
    let sig = &function.sig;
    let fail = |span, message: &str| Err(Error::new(span, message));
    if let Some(first) = sig.generics.params.first() {
        return fail(
            syn::spanned::Spanned::span(first),
            "a test has no type parameters",
        );
    }
    if let Some(word) = &sig.unsafety {
        return fail(word.span, "a test is not unsafe");
    }
    if let Some(word) = &sig.constness {
        return fail(word.span, "a test with a machine is not const");
    }
    let mut inputs = sig.inputs.iter();
    match (inputs.next(), inputs.next()) {
        (Some(FnArg::Typed(_)), None) => Ok(()),
        _ => fail(
            sig.paren_token.span.join(),
            "a test takes one argument, its machine: `vm: vmint::Vm`, or `vm: vmint::AsyncVm` in an async fn",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(attribute: TokenStream, item: TokenStream) -> String {
        expand(attribute, item).unwrap_err().to_string()
    }

    #[test]
    fn a_function_becomes_a_test_that_keeps_its_attributes_and_its_name() {
        let made = expand(
            quote! { image = "tiny", memory = "256M", cpus = 2, net = "nat", timeout = "60s" },
            quote! {
                #[ignore]
                fn works(vm: vmint::Vm) -> Result<(), vmint::Fault> { vm.sh("true").map(drop) }
            },
        );
        let text = made.unwrap().to_string();
        let file: syn::File = syn::parse_str(&text).unwrap();
        let syn::Item::Fn(function) = &file.items[0] else {
            panic!("no function: {text}")
        };
        assert_eq!(function.sig.ident, "works");
        assert!(function.sig.inputs.is_empty());
        assert_eq!(function.attrs.len(), 2);
        assert!(text.contains("testing :: run ("), "{text}");
        for field in ["image", "memory", "cpus", "net", "timeout"] {
            assert!(text.contains(&format!("{field} : ::")), "{text}");
        }
    }

    #[test]
    fn an_async_function_runs_in_a_runtime() {
        let made = expand(
            TokenStream::new(),
            quote! { async fn works(vm: vmint::AsyncVm) {} },
        );
        let text = made.unwrap().to_string();
        assert!(text.contains("testing :: run_async"), "{text}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_where_it_is_written() {
        let good = || quote! { fn t(vm: vmint::Vm) {} };
        let unknown = refused(quote! { imgae = "tiny" }, good());
        assert!(
            unknown.contains("imgae") && unknown.contains("image, memory"),
            "{unknown}"
        );
        assert!(refused(quote! { cpus = 0 }, good()).contains("at least one"));
        assert!(refused(quote! { cpus = 1, cpus = 2 }, good()).contains("twice"));
        assert!(refused(quote! { image = "a", image = "b" }, good()).contains("twice"));
        assert!(refused(quote! { net = "bridge" }, good()).contains("allow:"));
        assert!(refused(quote! { timeout = "soon" }, good()).contains("number"));
        assert!(refused(quote! {}, quote! { fn t() {} }).contains("one argument"));
        assert!(refused(quote! {}, quote! { fn t(&self) {} }).contains("one argument"));
        assert!(refused(quote! {}, quote! { fn t<T>(vm: T) {} }).contains("type parameters"));
    }
}
