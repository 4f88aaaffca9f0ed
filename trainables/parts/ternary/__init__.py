"""Linear layers with weights of -1, 0 and 1 and inputs in 8 bits: trained, packed into two bits a weight, and used."""
