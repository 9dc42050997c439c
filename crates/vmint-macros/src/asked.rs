//! What is written between the parentheses.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, LitInt, LitStr, Token};
use vmint_model::spec::{check_cpus, check_memory};
use vmint_model::{ByteSize, Name, NetMode, parse_duration};

/// Keys whose values are strings.
const TEXTS: [&str; 6] = ["image", "memory", "net", "pool", "timeout", "wait"];

/// `image = "tiny", cpus = 2, …`
#[derive(Default)]
pub(crate) struct Asked {
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
                let cpus = number.base10_parse::<u32>()?;
                check_cpus(cpus).map_err(|e| Error::new(number.span(), e))?;
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

/// What can be told to be wrong before there is a machine: by the rules of those who read it then.
fn check(key: &Ident, value: &LitStr) -> syn::Result<()> {
    let text = value.value();
    let told = match key.to_string().as_str() {
        _ if text.is_empty() => Err("an empty string names nothing".to_owned()),
        "memory" => text
            .parse::<ByteSize>()
            .map_err(|e| e.to_string())
            .and_then(check_memory),
        "net" => text.parse::<NetMode>().map(drop).map_err(|e| e.to_string()),
        "timeout" | "wait" => parse_duration(&text).map(drop).map_err(|e| e.to_string()),
        "image" | "pool" => text.parse::<Name>().map(drop).map_err(|e| e.to_string()),
        _ => Ok(()),
    };
    told.map_err(|message| Error::new(value.span(), message))
}

impl Asked {
    /// The fields of `vmint::testing::Asked` that are given.
    pub(crate) fn fields(&self) -> TokenStream {
        let texts = self.texts.iter().map(|(key, value)| {
            quote! { #key: ::core::option::Option::Some(#value), }
        });
        let cpus = self.cpus.iter().map(|number| {
            quote! { cpus: ::core::option::Option::Some(#number), }
        });
        quote! { #(#texts)* #(#cpus)* }
    }
}
