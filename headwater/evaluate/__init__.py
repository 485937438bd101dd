"""How good a model is, in both languages: bits per byte and multiple choice by likelihood."""
