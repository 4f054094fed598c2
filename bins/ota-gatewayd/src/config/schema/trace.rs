//! What a type takes, found out by letting it read: a deserializer that gives every field a sample and writes down what was
//! asked of it. What it tells is what the parser does, because it is the parser.

use std::{cell::RefCell, collections::BTreeMap};

use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::Error,
    },
    forward_to_deserialize_any,
};

/// What stands at a place of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Table {
        /// Name of the type.
        name: &'static str,
        keys: Vec<Key>,
        /// Whether a key that it does not know is an error.
        closed: bool,
    },
    List(Box<Shape>),
    Word {
        /// Name of the type.
        name: &'static str,
        words: &'static [&'static str],
    },
    Bool,
    /// Limits as the type has them.
    Integer {
        max: u64,
    },
    Number,
    /// With a text that it takes.
    Text(&'static str),
    /// Each of these.
    Any(Vec<Shape>),
}

/// One key of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) shape: Shape,
}

/// Texts to try, in this order, until one is taken.
const TEXTS: [&str; 4] = ["text", "5s", "127.0.0.1:8080", "v1.0.0"];
/// Kinds to try where a type wants to look by itself.
const KINDS: usize = 4;

/// One reading.
#[derive(Default)]
struct Run {
    /// Which sample the place gets.
    choices: BTreeMap<String, usize>,
    omit: Option<String>,
    /// The table that gets a key which nobody knows.
    surprise: Option<String>,
    /// The last place that got a sample of several.
    last: RefCell<String>,
    /// The places that want to look by themselves.
    lookers: RefCell<Vec<String>>,
}

impl Run {
    fn read<T: for<'de> Deserialize<'de>>(&self) -> Result<Shape, Error> {
        let mut shape = None;
        T::deserialize(Reader { run: self, path: String::new(), shape: &mut shape })?;
        shape.ok_or_else(|| Error::custom("the type asked for nothing"))
    }
}

/// The shape of `T`.
pub(super) fn shape<T: for<'de> Deserialize<'de>>() -> Shape {
    let mut run = Run::default();
    let mut shape = loop {
        match run.read::<T>() {
            Ok(shape) => break shape,
            Err(error) => {
                let place = run.last.borrow().clone();
                let next = run.choices.entry(place.clone()).or_default();
                *next += 1;
                assert!(*next < TEXTS.len().max(KINDS), "{place} takes no sample: {error}");
            }
        }
    };
    let lookers = run.lookers.take();
    look::<T>(&mut run, &lookers, "", &mut shape);
    finish::<T>(&mut run, "", &mut shape);
    shape
}

/// Which kinds the places take that look by themselves.
fn look<T: for<'de> Deserialize<'de>>(run: &mut Run, lookers: &[String], path: &str, shape: &mut Shape) {
    match shape {
        Shape::Table { keys, .. } => {
            for key in keys {
                look::<T>(run, lookers, &below(path, key.name), &mut key.shape);
            }
        }
        Shape::List(each) => look::<T>(run, lookers, &format!("{path}[]"), each),
        _ if lookers.iter().any(|place| place == path) => {
            let before = run.choices.get(path).copied();
            let kinds = [Shape::Bool, Shape::Integer { max: u64::MAX }, Shape::Number, Shape::Text("text")];
            let taken = kinds.into_iter().enumerate().filter(|(index, _)| {
                run.choices.insert(path.to_owned(), *index);
                run.read::<T>().is_ok()
            });
            let taken: Vec<Shape> = taken.map(|(_, kind)| kind).collect();
            run.choices.insert(path.to_owned(), before.unwrap_or_default());
            *shape = Shape::Any(taken);
        }
        _ => {}
    }
}

/// Which keys must be there, and whether others may.
fn finish<T: for<'de> Deserialize<'de>>(run: &mut Run, path: &str, shape: &mut Shape) {
    match shape {
        Shape::Table { keys, closed, .. } => {
            run.surprise = Some(path.to_owned());
            *closed = run.read::<T>().is_err();
            run.surprise = None;
            for key in keys {
                let place = below(path, key.name);
                run.omit = Some(place.clone());
                key.required = run.read::<T>().is_err();
                run.omit = None;
                finish::<T>(run, &place, &mut key.shape);
            }
        }
        Shape::List(each) => finish::<T>(run, &format!("{path}[]"), each),
        _ => {}
    }
}

pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

struct Reader<'a> {
    run: &'a Run,
    path: String,
    shape: &'a mut Option<Shape>,
}

impl Reader<'_> {
    fn choice(&self) -> usize {
        self.run.last.replace(self.path.clone());
        self.run.choices.get(&self.path).copied().unwrap_or_default()
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            *self.shape = Some(Shape::Integer { max: <$type>::MAX as u64 });
            visitor.$visit(1)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Error;

    integers! {
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.run.lookers.borrow_mut().push(self.path.clone());
        let choice = self.choice();
        *self.shape = Some(Shape::Any(Vec::new()));
        match choice {
            0 => visitor.visit_bool(true),
            1 => visitor.visit_u64(1),
            2 => visitor.visit_f64(1.5),
            _ => visitor.visit_str("text"),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Some(Shape::Bool);
        visitor.visit_bool(true)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Some(Shape::Number);
        visitor.visit_f64(1.5)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let choice = self.choice();
        let text = TEXTS.get(choice).copied().unwrap_or_default();
        *self.shape = Some(Shape::Text(text));
        visitor.visit_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut each = None;
        let path = format!("{}[]", self.path);
        let value = visitor.visit_seq(One { run: self.run, path: Some(path), shape: &mut each })?;
        *self.shape = each.map(|each| Shape::List(Box::new(each)));
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut keys = Vec::new();
        let value = visitor.visit_map(Table {
            run: self.run,
            path: &self.path,
            fields: fields.iter(),
            at: None,
            surprised: false,
            keys: &mut keys,
        })?;
        *self.shape = Some(Shape::Table { name, keys, closed: false });
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.shape = Some(Shape::Word { name, words });
        visitor.visit_enum(words.first().copied().unwrap_or_default().into_deserializer())
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 f32 char bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

/// A list of one.
struct One<'a> {
    run: &'a Run,
    path: Option<String>,
    shape: &'a mut Option<Shape>,
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(path) = self.path.take() else { return Ok(None) };
        seed.deserialize(Reader { run: self.run, path, shape: &mut *self.shape }).map(Some)
    }
}

/// A table with every key.
struct Table<'a> {
    run: &'a Run,
    path: &'a str,
    fields: std::slice::Iter<'static, &'static str>,
    at: Option<&'static str>,
    surprised: bool,
    keys: &'a mut Vec<Key>,
}

impl<'de> MapAccess<'de> for Table<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let omitted = |key: &&&'static str| self.run.omit.as_deref() != Some(&below(self.path, key));
        self.at = self.fields.by_ref().find(omitted).copied();
        if self.at.is_none() && !self.surprised && self.run.surprise.as_deref() == Some(self.path) {
            self.surprised = true;
            self.at = Some("a key that nobody knows");
        }
        let Some(key) = self.at else { return Ok(None) };
        let key: serde::de::value::StrDeserializer<'_, Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let name = self.at.ok_or_else(|| Error::custom("a value before its key"))?;
        let mut shape = None;
        let path = below(self.path, name);
        let value = seed.deserialize(Reader { run: self.run, path, shape: &mut shape })?;
        if let Some(shape) = shape {
            self.keys.push(Key { name, required: false, shape });
        }
        Ok(value)
    }
}
