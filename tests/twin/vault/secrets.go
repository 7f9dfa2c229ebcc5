package vault

import (
	"net/http"
	"time"
)

// secret is a name in a vault. It stays, deleted, until it is purged.
type secret struct {
	versions []secretVersion
	deleted  time.Time
}

type secretVersion struct {
	id, value, contentType string
	tags                   map[string]string
	created                time.Time
}

func (c *call) of(name string) *secret { return c.secrets[c.key()][name] }

func (c *call) key() string { return c.vault.ID + " " + c.vault.Made }

func (c *call) secretNotFound(name string) error {
	return failure(http.StatusNotFound, "SecretNotFound", "A secret with (name/id) %s was not found in this key vault.", name)
}

func (c *call) bundle(name string, v secretVersion, withValue bool) map[string]any {
	level := "Recoverable+Purgeable"
	if c.vault.PurgeProtection {
		level = "Recoverable"
	}
	b := map[string]any{
		"id":         c.url + "/secrets/" + name + "/" + v.id,
		"attributes": map[string]any{"enabled": true, "created": v.created.Unix(), "updated": v.created.Unix(), "recoveryLevel": level, "recoverableDays": 90},
	}
	if withValue {
		b["value"] = v.value
	}
	if v.contentType != "" {
		b["contentType"] = v.contentType
	}
	if v.tags != nil {
		b["tags"] = v.tags
	}
	return b
}

func (c *call) setSecret(name string) (any, error) {
	if err := c.authorize("secrets/setSecret/action", "secrets/"+name); err != nil {
		return nil, err
	}
	var body struct {
		Value       *string           `json:"value"`
		ContentType string            `json:"contentType"`
		Tags        map[string]string `json:"tags"`
	}
	if err := c.body(&body); err != nil {
		return nil, err
	}
	if body.Value == nil || len(*body.Value) > 25<<10 { // the documented size of a secret
		return nil, failure(http.StatusBadRequest, "BadParameter", "Secret value must be present and no longer than 25k characters.")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.of(name)
	if s == nil {
		s = &secret{}
	}
	if !s.deleted.IsZero() {
		p := failure(http.StatusConflict, "Conflict", "Secret %s is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered or purged.", name)
		p.inner = "ObjectIsDeletedButRecoverable"
		return nil, p
	}
	v := secretVersion{Version(), *body.Value, body.ContentType, body.Tags, time.Now()}
	s.versions = append(s.versions, v)
	if c.secrets[c.key()] == nil {
		c.secrets[c.key()] = map[string]*secret{}
	}
	c.secrets[c.key()][name] = s
	return c.bundle(name, v, true), nil
}

func (c *call) getSecret(name, version string) (any, error) {
	if err := c.authorize("secrets/getSecret/action", "secrets/"+name); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.of(name)
	if s == nil || !s.deleted.IsZero() {
		return nil, c.secretNotFound(name)
	}
	for i := len(s.versions) - 1; i >= 0; i-- {
		if v := s.versions[i]; version == "" || version == v.id {
			return c.bundle(name, v, true), nil
		}
	}
	return nil, c.secretNotFound(name + "/" + version)
}

// gone is a deleted secret.
func (c *call) gone(name string) (*secret, map[string]any, error) {
	s := c.of(name)
	if s == nil || s.deleted.IsZero() {
		return nil, nil, failure(http.StatusNotFound, "SecretNotFound", "Deleted Secret not found: %s", name)
	}
	b := c.bundle(name, s.versions[len(s.versions)-1], false)
	b["recoveryId"], b["deletedDate"] = c.url+"/deletedsecrets/"+name, s.deleted.Unix()
	return s, b, nil
}

func (c *call) deleteSecret(name string) (any, error) {
	if err := c.authorize("secrets/delete", "secrets/"+name); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.of(name)
	if s == nil || !s.deleted.IsZero() {
		return nil, c.secretNotFound(name)
	}
	s.deleted = time.Now()
	_, b, err := c.gone(name)
	return b, err
}

func (c *call) getDeletedSecret(name string) (any, error) {
	if err := c.authorize("secrets/readMetadata/action", "secrets/"+name); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, b, err := c.gone(name)
	return b, err
}

func (c *call) recoverSecret(name string) (any, error) {
	if err := c.authorize("secrets/recover/action", "secrets/"+name); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, _, err := c.gone(name)
	if err != nil {
		return nil, err
	}
	s.deleted = time.Time{}
	return c.bundle(name, s.versions[len(s.versions)-1], false), nil
}

func (c *call) purgeSecret(name string) (any, error) {
	if err := c.authorize("secrets/purge/action", "secrets/"+name); err != nil {
		return nil, err
	}
	if c.vault.PurgeProtection {
		return nil, failure(http.StatusForbidden, "Forbidden", "Operation \"purge\" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed.")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, _, err := c.gone(name); err != nil {
		return nil, err
	}
	delete(c.secrets[c.key()], name)
	return nil, nil // 204
}
