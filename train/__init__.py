"""Recipes that make encoders: pairs, teachers, losses, regularisers, mining, export."""
