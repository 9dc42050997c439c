//! The test function that is made of the user's.

use crate::asked::Asked;
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Attribute, Error, FnArg, ItemFn, Meta, ReturnType, Type};

/// What stands in the place of the attribute and its function.
pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let asked: Asked = syn::parse2(attribute)?;
    let mut function: ItemFn = syn::parse2(item)?;
    leave_one_test(&mut function.attrs)?;
    let taken = check(&function)?.clone();
    let machine = taken.span();
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
    // What the function takes and returns is told of where that is written.
    let takes = quote_spanned! { machine => ::vmint::testing::takes::<#taken>(); };
    let gives = match &sig.output {
        ReturnType::Default => TokenStream::new(),
        ReturnType::Type(_, ty) => {
            quote_spanned! { ty.span() => ::vmint::testing::gives::<#ty>(); }
        }
    };
    Ok(quote! {
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis fn #name() {
            #inner
            #takes
            #gives
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

/// Of the attributes that make a test of a function, this one is left: with two it would be run twice. Those that say how its runtime
/// shall be are refused, for this one makes the runtime.
fn leave_one_test(attrs: &mut Vec<Attribute>) -> syn::Result<()> {
    for attr in attrs.iter().filter(|attr| makes_test(attr)) {
        if !matches!(attr.meta, Meta::Path(_)) {
            let message = "`#[vmint::test]` makes the test and its runtime, with one thread: leave this attribute out";
            return Err(Error::new_spanned(attr, message));
        }
    }
    attrs.retain(|attr| !makes_test(attr));
    Ok(())
}

/// `#[test]`, `#[tokio::test]`, `#[::core::prelude::v1::test]`, which is what one like that leaves when it came first, and so on.
fn makes_test(attr: &Attribute) -> bool {
    let last = attr.path().segments.last();
    last.is_some_and(|last| last.ident == "test")
}

/// The type of what the function takes, which is its machine.
fn check(function: &ItemFn) -> syn::Result<&Type> {
    let sig = &function.sig;
    let fail = |span, message: &str| Err(Error::new(span, message));
    if let Some(first) = sig.generics.params.first() {
        return fail(first.span(), "a test has no type parameters");
    }
    if let Some(word) = &sig.unsafety {
        return fail(word.span, "a test is not unsafe");
    }
    if let Some(word) = &sig.constness {
        return fail(word.span, "a test with a machine is not const");
    }
    let mut inputs = sig.inputs.iter();
    let machine = match (inputs.next(), inputs.next()) {
        (Some(FnArg::Typed(machine)), None) => &*machine.ty,
        _ => {
            return fail(
                sig.paren_token.span.join(),
                "a test takes one argument, its machine: `vm: vmint::Vm`, or `vm: vmint::AsyncVm` in an async fn",
            );
        }
    };
    if let Type::Reference(_) = machine {
        let message = "a test is given its machine by value: `vm: vmint::Vm`, without `&`";
        return fail(machine.span(), message);
    }
    let is_awaited = matches!(machine, Type::Path(path)
        if path.path.segments.last().is_some_and(|last| last.ident == "AsyncVm"));
    if is_awaited && sig.asyncness.is_none() {
        let message = "an `AsyncVm` is for an `async fn`, of which no attribute above has made another function: take a `vmint::Vm`, or \
            leave that attribute out";
        return fail(machine.span(), message);
    }
    Ok(machine)
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
    fn with_another_attribute_that_makes_tests_there_is_still_one() {
        for other in [
            quote! { #[test] },
            quote! { #[tokio::test] },
            quote! { #[::core::prelude::v1::test] },
        ] {
            let made = expand(
                TokenStream::new(),
                quote! { #other #[ignore] async fn works(vm: vmint::Vm) {} },
            );
            let text = made.unwrap().to_string();
            let file: syn::File = syn::parse_str(&text).unwrap();
            let syn::Item::Fn(function) = &file.items[0] else {
                panic!("no function: {text}")
            };
            let tests = function.attrs.iter().filter(|attr| makes_test(attr));
            assert_eq!((tests.count(), function.attrs.len()), (1, 2), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_where_it_is_written() {
        let good = || quote! { fn t(vm: vmint::Vm) {} };
        let unknown = refused(quote! { imgae = "tiny" }, good());
        assert!(
            unknown.contains("imgae") && unknown.contains("image, memory"),
            "{unknown}"
        );
        for (asked, told) in [
            (quote! { cpus = 0 }, "must be between 1 and"),
            (quote! { cpus = 100000 }, "must be between 1 and"),
            (quote! { memory = "12X" }, "12X"),
            (quote! { memory = "1M" }, "memory must be between 64 MiB"),
            (quote! { memory = "129M" }, "multiple of 2 MiB"),
            (quote! { memory = "much" }, "much"),
            (quote! { net = "allow:" }, "allow"),
            (quote! { net = "allow:*.com" }, "two labels"),
            (quote! { wait = "1 fortnight" }, "fortnight"),
            (quote! { image = "no such name" }, "no such name"),
        ] {
            let said = refused(asked.clone(), good());
            assert!(said.contains(told), "{asked}: {said}");
        }
        assert!(refused(quote! { cpus = 1, cpus = 2 }, good()).contains("twice"));
        assert!(refused(quote! { image = "a", image = "b" }, good()).contains("twice"));
        assert!(refused(quote! { net = "bridge" }, good()).contains("allow:"));
        assert!(refused(quote! { timeout = "soon" }, good()).contains("number"));
        for (item, told) in [
            (quote! { fn t(vm: &vmint::Vm) {} }, "by value"),
            (quote! { fn t(vm: &mut Vm) {} }, "by value"),
            (quote! { async fn t(vm: &AsyncVm) {} }, "by value"),
            (quote! { fn t(vm: vmint::AsyncVm) {} }, "for an `async fn`"),
            (
                quote! { #[tokio::test(flavor = "multi_thread")] async fn t(vm: AsyncVm) {} },
                "leave this attribute out",
            ),
        ] {
            let said = refused(quote! {}, item.clone());
            assert!(said.contains(told), "{item}: {said}");
        }
        assert!(refused(quote! {}, quote! { fn t() {} }).contains("one argument"));
        assert!(refused(quote! {}, quote! { fn t(&self) {} }).contains("one argument"));
        assert!(refused(quote! {}, quote! { fn t<T>(vm: T) {} }).contains("type parameters"));
    }
}
