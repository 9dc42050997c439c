//! What is written between the parentheses.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, LitInt, LitStr, Token};

/// Keys whose values are strings.
const TEXTS: [&str; 6] = ["image", "memory", "net", "pool", "timeout", "wait"];

/// `image = "tiny", cpus = 2, …`
#[derive(Default)]
pub struct Asked {
    texts: Vec<(Ident, LitStr)>,
    cpus: Option<LitInt>,
}

impl Parse for Asked {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut asked = Self::default();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            if key == "cpus" {
                let number: LitInt = input.parse()?;
                if number.base10_parse::<u32>()? == 0 {
                    return Err(Error::new(
                        number.span(),
                        "a machine has at least one processor",
                    ));
                }
                if asked.cpus.replace(number).is_some() {
                    return Err(Error::new(key.span(), "`cpus` is given twice"));
                }
            } else if TEXTS.iter().any(|text| key == text) {
                let value: LitStr = input.parse()?;
                check(&key, &value)?;
                if asked.texts.iter().any(|(known, _)| *known == key) {
                    return Err(Error::new(key.span(), format!("`{key}` is given twice")));
                }
                asked.texts.push((key, value));
            } else {
                let known = TEXTS.join(", ");
                let message = format!("`{key}` is not known here; there are {known}, cpus");
                return Err(Error::new(key.span(), message));
            }
            if input.is_empty() {
                break;
            }
            input.parse::<Token![,]>()?;
        }
        Ok(asked)
    }
}

/// What can be told to be wrong before there is a machine.
fn check(key: &Ident, value: &LitStr) -> syn::Result<()> {
    let text = value.value();
    let fail = |message: &str| Err(Error::new(value.span(), message));
    if text.is_empty() {
        return fail("an empty string names nothing");
    }
    if key == "net" && text != "none" && text != "nat" && !text.starts_with("allow:") {
        return fail("a network is \"none\", \"nat\" or \"allow:DOMAIN,…\"");
    }
    if (key == "memory" || key == "timeout" || key == "wait")
        && !text.starts_with(|c: char| c.is_ascii_digit())
    {
        return fail("begins with a number: \"256M\", \"60s\"");
    }
    Ok(())
}

impl Asked {
    /// The fields of `vmint::testing::Asked` that are given.
    pub fn fields(&self) -> TokenStream {
        let texts = self.texts.iter().map(|(key, value)| {
            quote! { #key: ::core::option::Option::Some(#value), }
        });
        let cpus = self.cpus.iter().map(|number| {
            quote! { cpus: ::core::option::Option::Some(#number), }
        });
        quote! { #(#texts)* #(#cpus)* }
    }
}
