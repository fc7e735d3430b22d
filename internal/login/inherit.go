package login

// Inherit lets rp begin with the metadata that its predecessor discovered, if
// that has the same issuer: so a relying party with new settings is ready at once,
// even while the provider is not there. Keys are fetched anew.
func (rp *RelyingParty) Inherit(before *RelyingParty) {
	found := before.provider.Load()
	if found == nil || before.cfg.Issuer.String() != rp.cfg.Issuer.String() {
		return
	}
	rp.provider.CompareAndSwap(nil, &provider{metadata: found.metadata, keySet: newKeySet(found.JWKSURI, rp.client, rp.clock, rp.cfg)})
}
