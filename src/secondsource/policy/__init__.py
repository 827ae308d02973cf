"""Pure decisions: no clock, no socket, no await. The gateway and the rehearsal both drive them."""
