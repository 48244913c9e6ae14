"""Operators, who sign in, and tokens, which programs send."""

from collections.abc import Iterable
from typing import Any, ClassVar
from zoneinfo import available_timezones

from django.contrib.auth.models import AbstractUser, UserManager
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.crypto import salted_hmac
from django_otp.plugins.otp_totp.models import TOTPDevice

from operators import encryption
from operators.roles import PERMISSIONS, Permission, Role, needed_for


def is_time_zone(name: str) -> None:
    if name not in available_timezones() - {"localtime", "Factory"}:
        raise ValidationError("There is no time zone with this name. Examples: Europe/Berlin, UTC.")


class OperatorManager(UserManager["Operator"]):
    def create_superuser(
        self, username: str, email: str | None = None, password: str | None = None, **fields: Any
    ) -> "Operator":
        """Create an operator with the role admin. Django's `createsuperuser` calls this."""
        return self.create_user(username, email, password, **{**fields, "role": Role.ADMIN})

    def _create_user_object(
        self, username: str, email: str | None, password: str | None, **fields: Any
    ) -> "Operator":
        # Django's manager sets these two; here only the role decides.
        fields.pop("is_staff", None)
        fields.pop("is_superuser", None)
        operator: Operator = super()._create_user_object(username, email, password, **fields)  # type: ignore[misc]  # not in the stubs
        return operator


class Operator(AbstractUser):
    """A person who signs in. Not a user: users are the people whose IDs are in lists."""

    role = models.CharField(max_length=16, choices=Role, default=Role.VIEWER)
    time_zone = models.CharField(max_length=64, default="UTC", validators=[is_time_zone])
    # By what name the organization's sign-in server knows them; null: they sign in with a password alone.
    oidc_subject = models.CharField(
        "OpenID Connect subject",
        max_length=255,
        null=True,
        blank=True,
        unique=True,
        help_text="Who signs in with this subject is this operator, and gets the role of the claim.",
    )
    # Part of the hash that sessions are checked against: incrementing it ends every session of the operator.
    session_epoch = models.PositiveIntegerField(default=0, editable=False)

    # Only the role decides what an operator may do; Django's own columns would be a second source.
    is_staff = True
    is_superuser = False
    groups = None  # type: ignore[assignment]  # removes the field
    user_permissions = None  # type: ignore[assignment]  # removes the field

    objects: ClassVar[OperatorManager] = OperatorManager()

    class Meta:
        verbose_name = "operator"
        constraints = [
            models.CheckConstraint(condition=Q(role__in=Role.values), name="operator_role_is_known")
        ]

    def may(self, permission: Permission) -> bool:
        return self.is_active and permission in PERMISSIONS[Role(self.role)]

    def has_perm(self, perm: str, obj: object = None) -> bool:
        return self.may(needed_for(perm))

    def has_perms(self, perm_list: Iterable[str], obj: object = None) -> bool:
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, app_label: str) -> bool:
        return self.may(needed_for(f"{app_label}.view_any"))

    def get_all_permissions(self, obj: object = None) -> set[str]:
        return set()

    get_user_permissions = get_group_permissions = get_all_permissions

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        return salted_hmac(
            "operators.Operator.session",
            f"{self.session_epoch}:{self.password}",
            secret=secret,
            algorithm="sha256",
        ).hexdigest()


class Scope(models.TextChoices):
    READ = "read", "Read"
    WRITE = "write", "Read and write"
    SUBMIT = "submit", "Submit lists only"


class Token(models.Model):
    """A program's credential. Only the SHA-256 of its secret is stored: it can be checked, never shown again."""

    name = models.CharField(max_length=100)
    hash = models.CharField(max_length=64, unique=True, editable=False)
    scope = models.CharField(max_length=8, choices=Scope, default=Scope.READ)
    # Null: made on the command line, so it belongs to nobody.
    operator = models.ForeignKey(
        Operator, on_delete=models.CASCADE, null=True, blank=True, related_name="tokens"
    )
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    # From then on it is refused. Null: never.
    expires_at = models.DateTimeField(null=True, blank=True)
    # With the scope submit: the only queue that it may submit to. Empty: any.
    queue_name = models.CharField(max_length=50, blank=True, default="", db_default="")
    # Written at most once a minute.
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(condition=Q(scope__in=Scope.values), name="token_scope_is_known"),
            models.CheckConstraint(condition=~Q(name=""), name="token_has_a_name"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_revoked(self) -> bool:
        return self.revoked_at is not None

    def may(self, permission: Permission) -> bool:
        """Whether both the scope and the operator whose token it is allow it."""
        by_scope = (permission == Permission.VIEW and self.scope != Scope.SUBMIT) or (
            permission == Permission.ACT and self.scope == Scope.WRITE
        )
        return not self.is_revoked and by_scope and (self.operator is None or self.operator.may(permission))

    @property
    def may_submit(self) -> bool:
        """Whether the token may submit lists, which its operator has to be allowed to do as well."""
        by_scope = self.scope in (Scope.WRITE, Scope.SUBMIT)
        by_operator = self.operator is None or self.operator.may(Permission.ACT)
        return not self.is_revoked and by_scope and by_operator


class SavedView(models.Model):
    """A filter of a page, with its order and columns, under the name that an operator gave it."""

    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="saved_views")
    # The name of the page's address.
    page = models.CharField(max_length=40)
    name = models.CharField(max_length=60)
    # As the address contains it.
    query = models.CharField(max_length=2_000, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["operator", "page", "name"], name="saved_view_once_by_name"),
            models.CheckConstraint(condition=~Q(name=""), name="saved_view_has_a_name"),
        ]

    def __str__(self) -> str:
        return self.name


class AuthenticatorApp(TOTPDevice):  # type: ignore[misc]  # django-otp has no types
    """An operator's authenticator app; its key is encrypted in the database."""

    key: str

    class Meta:
        proxy = True

    def encrypt_key(self) -> None:
        """Replace the key, as it was drawn, by what is stored of it."""
        self.key = encryption.encrypt(bytes.fromhex(self.key), purpose=self._purpose)

    @property
    def _purpose(self) -> str:
        # The key of one operator is none for another, whatever somebody does to the rows.
        return f"totp of operator {self.user_id}"

    @property
    def bin_key(self) -> bytes:
        """The key as an app has it. Raises Undecryptable."""
        if encryption.is_encrypted(self.key):
            return encryption.decrypt(self.key, purpose=self._purpose)
        # From before keys were encrypted.
        return bytes.fromhex(self.key)
