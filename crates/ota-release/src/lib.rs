//! What a release engineer makes: keys, detached signatures, the signed TUF repository.
