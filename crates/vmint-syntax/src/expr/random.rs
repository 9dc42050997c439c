//! Values and expressions by chance, for property tests.

use super::value::{Object, Value};
use proptest::prelude::*;

/// A value, of any kind and somewhat nested.
pub(super) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1000_i32..1000).prop_map(|n| Value::from(f64::from(n) / 4.0)),
        "\\PC{0,8}".prop_map(Value::from),
        "[0-9a-zA-Z.]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("[a-c]{1,2}|\\PC{0,3}", inner), 0..5)
                .prop_map(|entries| Value::from(entries.into_iter().collect::<Object>())),
        ]
    })
}

/// A well-formed expression.
pub(super) fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        "-?[0-9]{1,3}(\\.[0-9]{1,3})?|0x[0-9a-f]{1,4}|0o[0-7]{1,3}|NaN|Infinity",
        "[^'\\pC]{0,6}(\\{[0-2]\\}|\\{\\{|\\[1\\])?".prop_map(|text| format!("'{text}'")),
        "(github|Env|steps|matrix|inputs)((\\.[ab]|\\['[ab]'\\]|\\[[0-2]\\]|\\.\\*|\\[\\*\\])){0,3}",
        Just("success()".to_owned()),
        Just("CANCELLED( )".to_owned()),
    ];
    leaf.prop_recursive(5, 30, 4, |inner| {
        let two = (inner.clone(), inner.clone());
        let operator = "\\|\\||&&|==|!=|<|<=|>|>=";
        prop_oneof![
            (two.clone(), operator).prop_map(|((a, b), op)| format!("({a} {op} {b})")),
            (two.clone(), operator).prop_map(|((a, b), op)| format!("{a}{op} {b}")),
            inner.clone().prop_map(|a| format!("!{a}")),
            (two.clone(), "contains|STARTSWITH|endsWith|join|format")
                .prop_map(|((a, b), name)| format!("{name}({a}, {b})")),
            (inner.clone(), "toJSON|fromJSON|format|join|hashFiles")
                .prop_map(|(a, name)| format!("{name}({a})")),
            (two.clone(), inner.clone()).prop_map(|((a, b), c)| format!("case({a}, {b}, {c})")),
            two.clone().prop_map(|(a, b)| format!("({a})[{b}]")),
            two.prop_map(|(a, b)| format!("fromJSON(toJSON({a})).*[{b}]")),
        ]
    })
}
