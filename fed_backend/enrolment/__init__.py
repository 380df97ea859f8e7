"""How a hospital becomes a member, stays one and leaves: keys, certificates, requests, sealed bundles, the roster. No torch.

server  authority          the federation's certificate authority and the server's certificate
server  server_identity    under which names the server is reached, and with whose certificate
site    node_keys          a site's two key pairs, made at the site; the private halves never leave it
both    request            what a site sends to be let in: its name and public keys, signed by itself
both    bundle             what it gets back: address, authority, settings, policy; signed, and sealed to that site alone
server  roster             who is let in: the truth, kept whether or not the SuperLink runs
server  superlink_nodes    brings the SuperLink's list of nodes in line with the roster
server  approval           approve, revoke, new bundles: roster, SuperLink and bundle together
site    membership         what a site knows after it has accepted a bundle
both    certificate_days   how many days every certificate has left
"""
