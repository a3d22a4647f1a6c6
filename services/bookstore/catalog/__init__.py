"""The catalog: which books the store sells, and at what price."""
