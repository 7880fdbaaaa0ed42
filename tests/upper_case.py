"""A naming convention that a user might write: dlt's usual one, in capital letters."""

from dlt.common.normalizers.naming import snake_case


class NamingConvention(snake_case.NamingConvention):
    @property
    def is_case_sensitive(self) -> bool:
        return True

    def normalize_identifier(self, identifier: str) -> str:
        return super().normalize_identifier(identifier).upper()
