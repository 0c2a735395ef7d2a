//! Why Azure Storage refuses, in its own words (REST reference, "Common REST API error codes" and those of Blob Storage).
//! A closed list: what else stands there is whatever the account likes, and it may like to repeat a credential.

/// What a reader of a container may be told.
const KNOWN: [&str; 24] = [
    "AccountIsDisabled",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "AuthorizationProtocolMismatch",
    "AuthorizationResourceTypeMismatch",
    "AuthorizationServiceMismatch",
    "AuthorizationSourceIPMismatch",
    "BlobArchived",
    "BlobNotFound",
    "ContainerBeingDeleted",
    "ContainerDisabled",
    "ContainerNotFound",
    "InsufficientAccountPermissions",
    "InternalError",
    "InvalidAuthenticationInfo",
    "InvalidQueryParameterValue",
    "InvalidRange",
    "NoAuthenticationInformation",
    "OperationTimedOut",
    "OutOfRangeQueryParameterValue",
    "PublicAccessNotPermitted",
    "ResourceNotFound",
    "ServerBusy",
];

/// The code, if it is one of Azure's; else nothing.
pub(super) fn known(code: Option<&[u8]>) -> &'static str {
    let known = KNOWN.iter().find(|known| code == Some(known.as_bytes()));
    known.copied().unwrap_or("no known error code")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_list_is_repeated() {
        assert_eq!(known(Some(b"ContainerNotFound")), "ContainerNotFound");
        for other in [None, Some(&b"sig=s3cret"[..]), Some(b"containernotfound"), Some(b"")] {
            assert_eq!(known(other), "no known error code");
        }
    }
}
