//! A new root: fresh keys for some roles, signed by the old and the new root keys.

use ota_core::Timestamp;

use crate::{
    Published, ReleaseError, RepoDir,
    metadata::{self, Head, RoleName},
};

/// What a rotation changes.
#[derive(Clone, Debug, Default)]
pub struct RotateOptions {
    /// Roles that get fresh keys. Empty: the root is only signed anew, for a later expiry.
    pub roles: Vec<RoleName>,
    /// How many keys the root role gets, if it is among `roles`; as many as it had when absent.
    pub root_keys: Option<usize>,
    /// How many of them must sign; as before when absent.
    pub root_threshold: Option<usize>,
}

impl RepoDir {
    /// Makes version N+1 of the root and publishes everything under it. Old key files stay in the folder, as devices
    /// with an older root need roots signed by them; they sign nothing else from now on.
    ///
    /// # Errors
    /// [`ReleaseError::KeysMissing`] when the old root keys are not there up to their threshold; `Io`.
    pub fn rotate(&self, options: &RotateOptions, now: Timestamp) -> Result<Published, ReleaseError> {
        let old = self.root()?;
        let mut root = old.clone();
        root.head = Head::new(RoleName::Root, old.head.version + 1, now + self.expiries.root)?;
        for &role in &options.roles {
            let was = root.role(role);
            let (count, threshold) = if role == RoleName::Root {
                (
                    options.root_keys.unwrap_or(was.keyids.len()),
                    options.root_threshold.unwrap_or(was.threshold),
                )
            } else {
                (was.keyids.len(), was.threshold)
            };
            if threshold == 0 || threshold > count {
                return Err(ReleaseError::Options("the threshold must lie between 1 and the number of keys"));
            }
            self.make_keys(&mut root, role, count, threshold)?;
        }
        let used: Vec<_> = root.roles.values().flat_map(|role| role.keyids.clone()).collect();
        root.keys.retain(|id, _| used.contains(id));

        let keys = self.keys.load()?;
        let mut signers = self.signers(&keys, RoleName::Root, &old.role(RoleName::Root))?;
        for key in self.signers(&keys, RoleName::Root, &root.role(RoleName::Root))? {
            if signers.iter().all(|known| known.id != key.id) {
                signers.push(key);
            }
        }
        let bytes = metadata::sign(&root, &signers)?;
        self.publish_under(&root, Some(&bytes), now)
    }
}
