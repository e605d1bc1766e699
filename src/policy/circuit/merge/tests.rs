//! Every sentence of design section 9 about the merged circuit.
