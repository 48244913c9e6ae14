"""The addresses of the dashboard."""

from django.urls import include, path, re_path, register_converter

from dashboard.views import (
    account,
    activity,
    alerts,
    board,
    calendar,
    drill_down,
    errors,
    failures,
    go_to,
    help,
    history,
    hours,
    ids,
    minutes,
    preview,
    progress,
    proof,
    queues,
    replace,
    request_log,
    saved_views,
    selected_tasks,
    targets,
    tasks,
    trends,
    upload,
)


class Verb:
    """An action on a queue that has a button."""

    regex = "pause|resume|brake"
    to_python = to_url = staticmethod(str)


class UserKey:
    """A number, or t and a number for an ID that is text: no address contains the text, and no log does."""

    regex = "t?[0-9]+"

    def to_python(self, text: str) -> int:
        number = int(text.removeprefix("t"))
        return -number if text.startswith("t") else number

    def to_url(self, user_id: int) -> str:
        return str(user_id) if user_id >= 0 else f"t{-user_id}"


register_converter(Verb, "verb")
register_converter(UserKey, "user_key")
# <user_key:user_id> takes any number of digits; a number that is not an ID was never in a list, and the page says so.
urlpatterns = [
    path(
        "dashboard/",
        include(
            [
                path("", board.board, name="board"),
                path("alarms/", board.alarms, name="alarms"),
                path("ahead/", board.ahead, name="ahead"),
                path("alerts/", alerts.alerts, name="alerts"),
                path("alerts/rules/", alerts.set_rules, name="alert_rules"),
                path("alerts/test/", alerts.test, name="alert_test"),
                path("alerts/channels/new/<str:kind>/", alerts.new_channel, name="new_channel"),
                path("alerts/channels/<int:channel_id>/", alerts.channel, name="channel"),
                path("alerts/channels/<int:channel_id>/test/", alerts.test_channel, name="channel_test"),
                path(
                    "alerts/channels/<int:channel_id>/delete/", alerts.delete_channel, name="channel_delete"
                ),
                path("alerts/deliveries/", alerts.deliveries, name="deliveries"),
                path(
                    "alerts/deliveries/<int:delivery_id>/send-again/",
                    alerts.send_again,
                    name="send_event_again",
                ),
                path("calendar/", calendar.calendar, name="calendar"),
                path("drill-down/", drill_down.drill_down, name="drill_down"),
                path("held/", drill_down.former_address, name="former_drill_down"),
                path("heat/<str:stamp>/", board.cell, name="cell_of_all"),
                path("heat/<slug:name>/<str:stamp>/", board.cell, name="cell"),
                path("upload/", upload.upload, name="upload"),
                path("upload/<int:draft_id>/", preview.preview, name="preview"),
                path("upload/<int:draft_id>/discard/", preview.discard, name="discard"),
                path("upload/<int:draft_id>/overlap/", preview.overlap, name="overlap"),
                path("upload/<int:draft_id>/leave-out/", preview.leave_out, name="leave_out"),
                path("upload/<int:draft_id>/faults.csv", preview.faults, {"form": "csv"}, name="faults"),
                path(
                    "upload/<int:draft_id>/faults.ndjson",
                    preview.faults,
                    {"form": "ndjson"},
                    name="faults_ndjson",
                ),
                path("tasks/", tasks.tasks, name="tasks"),
                path("tasks/newer/", tasks.newer, name="tasks_newer"),
                path("tasks/selected/", selected_tasks.selected, name="tasks_selected"),
                path("tasks/cancel/", tasks.cancel_matching, name="tasks_cancel"),
                path("tasks/<int:task_id>/", tasks.task, name="task"),
                path("tasks/<int:task_id>/replace/", replace.replace, name="task_replace"),
                path("tasks/<int:task_id>/replace/<int:draft_id>/", replace.preview, name="replace_preview"),
                path("tasks/<int:task_id>/rename/", tasks.rename, name="task_rename"),
                path("tasks/<int:task_id>/send-again/", tasks.send_again, name="task_send_again"),
                path("tasks/<int:task_id>/cancel/", tasks.cancel, name="task_cancel"),
                path("tasks/<int:task_id>/hold/", tasks.hold, name="task_hold"),
                path("tasks/<int:task_id>/continue/", tasks.resume, name="task_continue"),
                path("failures/", failures.failures, name="failures"),
                path("failures/retrying/", failures.retrying, name="retrying"),
                path("acts/<slug:run>/", progress.progress, name="progress"),
                path("acts/<slug:run>/stop/", progress.stop, name="stop_operation"),
                path("ids/", ids.find, name="find"),
                path("ids/<user_key:user_id>/", ids.story, name="id"),
                path("minutes/<str:stamp>/", minutes.minute, name="minute"),
                path("windows/<slug:name>/<str:stamp>/", minutes.window, name="window"),
                path("queues/", queues.all_queues, name="queues"),
                path("all-queues/<verb:verb>/", queues.act_on_all, name="queues_act"),
                path("queues/<slug:name>/", queues.queue, name="queue"),
                path("queues/<slug:name>/<verb:verb>/", queues.act, name="queue_act"),
                path("queues/<slug:name>/test/", queues.test, name="queue_test"),
                path("queues/<slug:name>/requests/", request_log.requests, name="queue_requests"),
                path("queues/<slug:name>/trends/", trends.trends, name="queue_trends"),
                path("queues/<slug:name>/release/", queues.release, name="queue_release"),
                path("queues/<slug:name>/slow-down/", queues.slow_down, name="queue_slow_down"),
                path("targets/", targets.all_targets, name="targets"),
                path("targets/<int:target_id>/", targets.target, name="target"),
                path("targets/<int:target_id>/end/", targets.end, name="target_end"),
                path("hours/", hours.all_hours, name="hours"),
                path("hours/<slug:name>/", hours.one_hours, name="one_hours"),
                path("history/", history.today, name="history_today"),
                path("history/<str:day>/", history.history, name="history"),
                path("proof/", proof.proof, name="proof"),
                path("proof/receipts/", proof.receipts, name="receipts"),
                path("go-to/", go_to.go_to, name="go_to"),
                path("help/", help.help_page, name="help"),
                path("activity/", activity.activity, name="activity"),
                path("account/", account.account, name="account"),
                path("account/two-factor/", account.two_factor, name="two_factor"),
                path("account/views/", saved_views.save, name="save_view"),
                path("account/views/<int:view_id>/delete/", saved_views.delete, name="delete_view"),
                path("account/sign-out/", account.sign_out_everywhere, name="sign_out_everywhere"),
            ]
        ),
    ),
    # An address typed without its final slash leads to the same page.
    re_path(r"^(?:dashboard|admin)(?:/.*[^/])?$", errors.without_slash),
]
