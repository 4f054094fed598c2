//! Tests of the whole store, by what it promises.
