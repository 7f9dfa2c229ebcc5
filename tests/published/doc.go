// Package published has the real gateway take its ruleset from a storage account, in the
// lab: from a first start with nothing published, through versions good and bad, to a restart without
// the account.
package published
