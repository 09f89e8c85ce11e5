"""The rules by which networks pay: allocation, settlement, commitment, one small module each."""
